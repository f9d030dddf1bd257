"""``convert_conv1d_to_linear``: replace GPT-2's layers with transposed weights by ordinary linear layers."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from xtc_ds.errors import PlanError, Problem
from xtc_ds.freezing.freeze import unwrap
from xtc_ds.layers import CompressedLayer
from xtc_ds.zero import is_partitioned

__all__ = ["convert_conv1d_to_linear"]

M = TypeVar("M")


def convert_conv1d_to_linear(model: M, convert_type: type | tuple[type, ...]) -> M:
    """Replace the modules of ``convert_type`` by ``nn.Linear`` with the transposed weight; returns ``model``.

    convert_type: classes whose weight is stored as (in, out), such as ``transformers.pytorch_utils.Conv1D``. The
        Parameters stay the same objects, so that dtype, device, ``requires_grad``, weight tying and existing
        optimizers are preserved.

    Conv1D can be compressed directly: only scripts and checkpoints that expect Linear layers need this function.
    Raises PlanError before anything is changed.
    """
    module = unwrap(model)
    modules = dict(module.named_modules())
    found = {name: child for name, child in modules.items() if _is_one(child, convert_type)}
    _check(module, found)
    turned: set[int] = set()
    linears = {id(child): _linear(child, turned) for child in found.values()}
    for parent in module.modules():
        for name, child in parent._modules.items():
            if id(child) in linears:
                parent._modules[name] = linears[id(child)]
    return model


def _is_one(module: nn.Module, convert_type: type | tuple[type, ...]) -> bool:
    return isinstance(module, convert_type)


def _linear(old: nn.Module, turned: set[int]) -> nn.Linear:
    weight, bias = _tensors(old)
    with torch.no_grad():
        if id(weight) not in turned:
            weight.data = weight.data.t().contiguous()
            turned.add(id(weight))
        if bias is not None:
            bias.data = bias.data.view(-1)
    outputs, inputs = weight.shape
    # On the meta device, without allocation or random numbers, because the parameters come from the old module.
    linear = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
    linear._parameters["weight"] = weight  # type: ignore[assignment]
    linear._parameters["bias"] = bias  # type: ignore[assignment]
    linear.training = old.training
    linear.__dict__.update({key: value for key, value in vars(old).items() if key.endswith("hooks")})
    return linear


def _tensors(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    weight, bias = module._parameters["weight"], module._parameters.get("bias")
    assert weight is not None
    return weight, bias


def _check(model: nn.Module, found: dict[str, Any]) -> None:
    ours = {id(child) for child in found.values()}
    used_elsewhere = {
        id(parameter)
        for child in model.modules()
        if id(child) not in ours
        for parameter in child._parameters.values()
        if parameter is not None
    }
    reasons = ((name, _reason(name, child, used_elsewhere)) for name, child in found.items())
    if problems := [Problem(name or "the model", reason) for name, reason in reasons if reason]:
        raise PlanError(problems)


def _reason(name: str, module: nn.Module, used_elsewhere: set[int]) -> str | None:
    weight = module._parameters.get("weight")
    if not name:
        return "is itself of the type to convert, so it cannot be replaced in place; put it into a module"
    if isinstance(module, nn.Linear):
        return "is a Linear already; its weight is stored (out, in)"
    if isinstance(module, CompressedLayer):
        return "is compressed already; call convert_conv1d_to_linear before init_compression"
    if weight is None or (weight.dim() != 2 and not is_partitioned(weight)):
        return "has no weight of two dimensions"
    if is_partitioned(weight):
        return "is partitioned by ZeRO-3; convert the model before zero.Init or the engine sees it"
    if id(weight) in used_elsewhere:
        return "shares its weight with a module of another type, for which it must not be transposed"
    return None
