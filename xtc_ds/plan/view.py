"""The modules of a model under the names they will have once layers are dropped. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from xtc_ds.plan.rows import ReductionRow

__all__ = ["iterate_tensors", "named_modules_after"]


def named_modules_after(model: nn.Module, reduction: ReductionRow | None) -> dict[str, nn.Module]:
    """Name to module, in module order, with dropped layers gone and kept ones renumbered."""
    modules = dict(model.named_modules())
    if reduction is None or not reduction.cut:
        return modules
    prefix = f"{reduction.stack}."
    position = {old: new for new, old in enumerate(reduction.kept)}
    result: dict[str, nn.Module] = {}
    for name, module in modules.items():
        if not name.startswith(prefix):
            result[name] = module
            continue
        index, dot, rest = name[len(prefix) :].partition(".")
        if int(index) in position:
            result[f"{prefix}{position[int(index)]}{dot}{rest}"] = module
    return result


def iterate_tensors(modules: dict[str, nn.Module]) -> Iterator[tuple[str, str, Tensor, bool]]:
    """(module name, tensor name, tensor, is parameter) of all that a state dict would hold, shared ones repeated."""
    for name, module in modules.items():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                yield name, key, parameter, True
        for key, buffer in module._buffers.items():
            if buffer is not None and key not in module._non_persistent_buffers_set:
                yield name, key, buffer, False
