"""Give each planned module its head pruning."""

from __future__ import annotations

from torch import nn

from xtc_ds.layers import add_pruning, swap_class
from xtc_ds.plan import CompressionPlan

__all__ = ["apply"]


def apply(model: nn.Module, plan: CompressionPlan, teacher: nn.Module | None) -> None:
    """Masks of heads from the norms of their inputs' weights, or scores to learn; shapes stay until the freeze."""
    for row in plan.structured:
        if row.technique == "head":
            add_pruning(swap_class(model.get_submodule(row.module)), row)
