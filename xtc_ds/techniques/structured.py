"""What the prunings of rows, heads and channels have in common."""

from __future__ import annotations

from torch import nn

from xtc_ds.layers import add_pruning, swap_class
from xtc_ds.plan import CompressionPlan

__all__ = ["prune_units"]


def prune_units(model: nn.Module, plan: CompressionPlan, technique: str) -> None:
    """Give each module that ``technique`` prunes its masks, and tell those that read its output of them."""
    for row in plan.structured:
        if row.technique != technique:
            continue
        layer = swap_class(model.get_submodule(row.module))
        add_pruning(layer, row)
        for related in row.related:
            if related.side == "in":
                swap_class(model.get_submodule(related.module)).pruned_source = (layer, row)
