"""Give each planned module its sparse pruning."""

from __future__ import annotations

from torch import nn

from xtc_ds.layers import add_pruning, swap_class
from xtc_ds.plan import CompressionPlan
from xtc_ds.techniques.registry import register_technique

__all__ = ["apply"]


def apply(model: nn.Module, plan: CompressionPlan, teacher: nn.Module | None) -> None:
    """Masks from the weights as they are now, or scores to learn; nothing else of the modules changes."""
    for row in plan.sparse:
        add_pruning(swap_class(model.get_submodule(row.module)), row)


register_technique("sparse_pruning", apply)
