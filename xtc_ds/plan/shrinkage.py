"""Modules that pruning made smaller than the model's own config says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from xtc_ds.plan.rows import Kind

__all__ = ["Shrinkage", "ShrunkModule"]


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

    def after(self, earlier: Shrinkage) -> Shrinkage:
        """This shrinking of a model that was shrunk ``earlier`` already, as one."""
        modules = dict(earlier.modules)
        for name, module in self.modules.items():
            modules[name] = replace(module, before=modules[name].before) if name in modules else module
        return Shrinkage(modules, {**earlier.attributes, **self.attributes})
