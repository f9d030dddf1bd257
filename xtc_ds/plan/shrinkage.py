"""Modules that pruning made smaller than the model's own config says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from xtc_ds.plan.rows import Kind

__all__ = ["Shrinkage", "ShrunkModule"]


@dataclass(frozen=True)
class ShrunkModule:
    """Shape of a module's weight, outputs first, before and after pruning; for a BatchNorm2d its number of features."""

    kind: Kind
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class Shrinkage:
    """Which modules are smaller than the model's own config says.

    modules: name to sizes. attributes: module name to attributes that change as well, such as the number of heads.
    """

    modules: Mapping[str, ShrunkModule] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.modules)

    def after(self, earlier: Shrinkage) -> Shrinkage:
        """The total shrinkage, if this one is applied to a model that was already shrunk by ``earlier``."""
        modules = dict(earlier.modules)
        for name, module in self.modules.items():
            modules[name] = replace(module, before=modules[name].before) if name in modules else module
        return Shrinkage(modules, {**earlier.attributes, **self.attributes})
