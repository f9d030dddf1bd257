"""Modules that pruning made smaller, as ``config.json`` tells of them, and how an empty model is made to fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from xtc_ds.errors import ExportError
from xtc_ds.freezing.heads import HEAD_ATTRIBUTES
from xtc_ds.layer_kinds import LayerKind, kind_of, layer_kind, weight_shape
from xtc_ds.plan.rows import Kind

__all__ = [
    "Shrinkage",
    "ShrunkModule",
    "check_shrinkage",
    "set_attributes",
    "shrink_empty",
]


@dataclass(frozen=True)
class ShrunkModule:
    """Sizes of a module before and after; of its weight, outputs first, or of a BatchNorm2d the features."""

    kind: Kind
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class Shrinkage:
    """What is smaller than the model's own config says.

    modules: name to sizes. attributes: module name to attributes that changed along, such as the number of heads.
    """

    modules: Mapping[str, ShrunkModule] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.modules)

    def after(self, earlier: Shrinkage | None) -> Shrinkage:
        """This shrinking of a model that was shrunk ``earlier`` already, as one."""
        if earlier is None:
            return self
        modules = dict(earlier.modules)
        for name, module in self.modules.items():
            modules[name] = replace(module, before=modules[name].before) if name in modules else module
        return Shrinkage(modules, {**earlier.attributes, **self.attributes})

    def to_json(self) -> dict[str, Any]:
        """Plain data; modules with equal sizes share an entry."""
        layers: dict[ShrunkModule, list[str]] = {}
        for name, module in self.modules.items():
            layers.setdefault(module, []).append(name)
        heads: dict[tuple[tuple[str, int], ...], list[str]] = {}
        for name, values in self.attributes.items():
            heads.setdefault(tuple(values.items()), []).append(name)
        return {
            "layers": [
                {"modules": names, "kind": module.kind, "before": list(module.before), "after": list(module.after)}
                for module, names in layers.items()
            ],
            "attributes": [{"modules": names, "values": dict(values)} for values, names in heads.items()],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Shrinkage:
        """The inverse of ``to_json``. Raises KeyError, TypeError or ValueError where it is not understood."""
        modules, attributes = {}, {}
        for entry in content["layers"]:
            before, after = (tuple(int(size) for size in entry[key]) for key in ("before", "after"))
            if len(before) != len(after) or not all(0 < a <= b for a, b in zip(after, before, strict=True)):
                raise ValueError(f"sizes {after} out of {before}")
            modules.update(dict.fromkeys(entry["modules"], ShrunkModule(entry["kind"], before, after)))
        for entry in content["attributes"]:
            values = {key: int(value) for key, value in entry["values"].items()}
            if not values.keys() <= HEAD_ATTRIBUTES:
                raise ValueError(f"attributes {', '.join(values)}")
            attributes.update(dict.fromkeys(entry["modules"], values))
        return cls(modules, attributes)


def check_shrinkage(model: nn.Module, shrinkage: Shrinkage) -> None:
    """Raise ExportError where a plain model lacks one of the modules that shrink, or its sizes differ."""
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
    """Give the named modules of a model that is to be filled their smaller, empty tensors."""
    modules = dict(model.named_modules())
    for name, shrunk in shrinkage.modules.items():
        _empty_tensors(modules[name], layer_kind(shrunk.kind), shrunk.after)
    set_attributes(model, shrinkage.attributes)


def set_attributes(model: nn.Module, attributes: Mapping[str, Mapping[str, int]]) -> None:
    """Set attributes of modules by name."""
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
