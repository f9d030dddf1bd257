"""Convert a teacher to the dtype in which it runs: a copy with fewer bits, made once."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from xtc_ds.clone import clone_model
from xtc_ds.errors import DistillationError
from xtc_ds.kernels.training import cpu_multiplies_integers_fast
from xtc_ds.layer_kinds import layer_kind_of
from xtc_ds.plan.candidates import refusal
from xtc_ds.runtime.fused import fuse
from xtc_ds.runtime.packed import PackedLayer
from xtc_ds.techniques.kd.int8_layers import Int8Linear, int8_embedding
from xtc_ds.zero import is_partitioned

__all__ = ["check_dtype", "in_dtype"]

logger = logging.getLogger(__name__)

_INT8 = "int8"
_INTEGER_DEVICES = ("cpu", "cuda")


def check_dtype(teacher: nn.Module, dtype: str | None, device: str = "cpu") -> None:
    """Raise DistillationError if ``in_dtype`` cannot convert the teacher. device: device type, such as "cuda"."""
    if _has_dtype(teacher, dtype):
        return
    if any(is_partitioned(tensor) for tensor in teacher.parameters()):
        remedy = "leave it out, or give the teacher whole" if dtype == _INT8 else "set the type in that engine's config"
        _refuse(dtype, f"cannot change a teacher that an engine of its own partitions; {remedy}")
    if dtype != _INT8:
        return
    compressed = next((name for name, module in teacher.named_modules() if _is_compressed(module)), None)
    if compressed is not None:
        _refuse(dtype, f"is for a teacher of floats, but '{compressed}' is compressed already; leave it out")
    if device not in _INTEGER_DEVICES:
        _refuse(dtype, f'has no integer product on {device}, only on {" and ".join(_INTEGER_DEVICES)}; use "bfloat16"')
    if not any(not isinstance(teacher.get_submodule(name), nn.Embedding) for name in _chosen(teacher)):
        _refuse(dtype, f"finds no linear layer in {type(teacher).__name__} that it could change; leave it out")


def in_dtype(teacher: nn.Module, dtype: str | None, device: str = "cpu") -> nn.Module:
    """``teacher`` itself if it already runs in ``dtype`` (or that is None), else a converted copy.

    "float32", "float16" and "bfloat16" convert all floats. "int8" quantizes the weights of linear layers and embeddings
    to 8 bits with one scale per row, and the inputs of linear layers to 8 bits with one scale per token. The head (all
    modules outside a transformers model's ``base_model``), tied weights, norms and biases are kept.
    device: type of the device on which the copy will run. Raises DistillationError like ``check_dtype``.
    """
    if _has_dtype(teacher, dtype):
        return teacher
    check_dtype(teacher, dtype, device)
    if dtype == _INT8:
        return _in_int8(teacher, device)
    wanted: torch.dtype = getattr(torch, str(dtype))

    def convert(old: Tensor, stored: bool) -> Tensor:
        return old.detach().to(wanted if old.is_floating_point() else old.dtype, copy=True)

    converted = _with_own_configs(clone_model(teacher, convert))
    if hasattr(getattr(converted, "config", None), "to_dict"):
        # Some models read their float dtype from the config.
        converted.config.dtype = wanted  # type: ignore[union-attr]
    return converted


def _in_int8(teacher: nn.Module, device: str) -> nn.Module:
    chosen = set(_chosen(teacher))

    def replace(name: str, module: nn.Module) -> nn.Module | None:
        if name not in chosen:
            return None
        if isinstance(module, nn.Embedding):
            return int8_embedding(module)
        weight, bias = module.get_parameter("weight"), module._parameters.get("bias")
        own_bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        kind = layer_kind_of(module)
        assert kind is not None
        return Int8Linear(kind.outputs_first(weight), own_bias, for_cpu=device == "cpu")

    converted = _with_own_configs(clone_model(teacher, lambda old, stored: old.detach().clone(), replace))
    if device == "cpu":
        fuse(converted, (Int8Linear,))
        if not cpu_multiplies_integers_fast():
            what = "this processor has no fast integer product: the teacher takes less memory, but no less time"
            logger.warning('"teacher_dtype": "int8": %s', what)
    return converted


def _chosen(teacher: nn.Module) -> Iterator[str]:
    """Names of the layers to convert to int8."""
    modules = dict(teacher.named_modules())
    uses = Counter(id(module._parameters.get("weight")) for module in modules.values())
    inside = {id(module) for module in getattr(teacher, "base_model", teacher).modules()}
    for name, module in modules.items():
        kind, weight = layer_kind_of(module), module._parameters.get("weight")
        # Layers packed as one of these kinds compute only the product or the lookup.
        if kind is None or kind.packed not in ("linear", "embedding"):
            continue
        if id(module) not in inside or refusal(name, module, modules):
            continue
        # Tensor subclasses were quantized by another library; a table with several uses is shared with the head.
        if type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point() and uses[id(weight)] == 1:
            yield name


def _is_compressed(module: nn.Module) -> bool:
    return isinstance(module, PackedLayer | Int8Linear) or hasattr(module, "weight_transforms")


def _has_dtype(teacher: nn.Module, dtype: str | None) -> bool:
    if dtype is None:
        return True
    floats = [tensor for tensor in teacher.parameters() if tensor.is_floating_point()]
    return dtype != _INT8 and all(tensor.dtype == getattr(torch, dtype) for tensor in floats)


def _with_own_configs(converted: nn.Module) -> nn.Module:
    """Copy the configs, which would otherwise be shared with the teacher; modules that share a config still do."""
    memo: dict[int, Any] = {}
    for module in converted.modules():
        if hasattr(module.__dict__.get("config"), "to_dict"):
            module.config = copy.deepcopy(module.config, memo)
    return converted


def _refuse(dtype: str | None, why: str) -> None:
    raise DistillationError(f'"teacher_dtype": "{dtype}" {why}')
