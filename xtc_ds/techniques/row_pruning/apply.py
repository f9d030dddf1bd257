"""Give each planned module its row pruning."""

from __future__ import annotations

from torch import nn

from xtc_ds.plan import CompressionPlan
from xtc_ds.techniques.registry import register_technique
from xtc_ds.techniques.structured import prune_units

__all__ = ["apply"]


def apply(model: nn.Module, plan: CompressionPlan, teacher: nn.Module | None) -> None:
    """Masks of rows from their norms as they are now, or scores to learn; shapes stay until the model is frozen."""
    prune_units(model, plan, "row")


register_technique("row_pruning", apply)
