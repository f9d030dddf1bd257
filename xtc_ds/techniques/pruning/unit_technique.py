"""The base class of row, head and channel pruning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from xtc_ds.layer_kinds import Operation
from xtc_ds.layers import swap_class
from xtc_ds.plan import PlanContext, Planned
from xtc_ds.techniques.pruning.reading import UnprunedInput
from xtc_ds.techniques.pruning.related import Unit
from xtc_ds.techniques.pruning.structured_plan import plan_units
from xtc_ds.techniques.pruning.technique import Pruning
from xtc_ds.techniques.pruning.unit_masks import OutputMask
from xtc_ds.techniques.pruning.unit_rows import StructuredRow

__all__ = ["UnitPruning"]


class UnitPruning(Pruning):
    """Prunes whole parts of a weight. unit: the kind of part; operation: the kind of layer."""

    unit: ClassVar[Unit]
    operation: ClassVar[Operation]

    def plan(self, context: PlanContext) -> Planned:
        """Plan rows for the groups of the section; see ``plan_units``."""
        return plan_units(self.unit, self.operation, context)

    def apply(self, model: nn.Module, rows: Sequence[StructuredRow], teacher: nn.Module | None) -> None:
        """Add masks (or scores to learn) to each module, and mask the inputs of the modules that read its output."""
        for row in rows:
            layer = swap_class(model.get_submodule(row.module))
            mask = self.mask_class(row)  # type: ignore[call-arg]
            mask.attach(layer)
            for related in row.related:
                if related.side == "in" and isinstance(mask, OutputMask):
                    reader = swap_class(model.get_submodule(related.module))
                    # Must run before the transform that quantizes the input.
                    reader.input_transforms = (UnprunedInput(layer, mask), *reader.input_transforms)
