"""Shrink an empty model to the sizes of the pruned model whose file is going to be loaded."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from xtc_ds.errors import ExportError
from xtc_ds.layer_kinds import LayerKind, kind_of, layer_kind, weight_shape
from xtc_ds.plan.shrinkage import Shrinkage

__all__ = [
    "check_shrinkage",
    "set_attributes",
    "shrink_empty",
]


def check_shrinkage(model: nn.Module, shrinkage: Shrinkage) -> None:
    """Raise ExportError if a plain model lacks one of the modules that shrink, or has other sizes before pruning."""
    modules = dict(model.named_modules())
    for name, shrunk in shrinkage.modules.items():
        module = modules.get(name)
        if module is None or kind_of(module) != shrunk.kind:
            found = "none" if module is None else f"a {type(module).__name__}"
            raise ExportError(
                f"the checkpoint has a smaller {shrunk.kind} '{name}'; this model ({type(model).__name__}) has {found}"
            )
        if weight_shape(module) != shrunk.before:
            raise ExportError(
                f"the checkpoint was pruned from '{name}' of shape {shrunk.before}; the model's is "
                f"{weight_shape(module)}; build the model as it was before pruning"
            )
    if missing := [name for name in shrinkage.attributes if name not in modules]:
        raise ExportError(f"the checkpoint was pruned from a model with '{missing[0]}', which this one lacks")


def shrink_empty(model: nn.Module, shrinkage: Shrinkage) -> None:
    """Replace the tensors of the named modules by smaller, uninitialized ones, in place."""
    modules = dict(model.named_modules())
    for name, shrunk in shrinkage.modules.items():
        _empty_tensors(modules[name], layer_kind(shrunk.kind), shrunk.after)
    set_attributes(model, shrinkage.attributes)


def set_attributes(model: nn.Module, attributes: Mapping[str, Mapping[str, int]]) -> None:
    """Set attributes of modules, given as module name to attribute name to value."""
    for name, values in attributes.items():
        for key, value in values.items():
            setattr(model.get_submodule(name), key, value)


def _empty_tensors(module: nn.Module, kind: LayerKind, shape: tuple[int, ...]) -> None:
    for key in kind.tensors:
        size, old = kind.tensor_shape(key, shape), getattr(module, key, None)
        if size is None or old is None:
            continue
        empty = torch.empty(size, dtype=old.dtype, device=old.device)
        if isinstance(old, nn.Parameter):
            module._parameters[key] = nn.Parameter(empty, requires_grad=old.requires_grad)
        else:
            module._buffers[key] = empty
    kind.set_sizes(module, shape)
