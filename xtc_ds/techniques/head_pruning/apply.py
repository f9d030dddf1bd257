"""Give each planned module its head pruning."""

from __future__ import annotations

from torch import nn

from xtc_ds.plan import CompressionPlan
from xtc_ds.techniques.registry import register_technique
from xtc_ds.techniques.structured import prune_units

__all__ = ["apply"]


def apply(model: nn.Module, plan: CompressionPlan, teacher: nn.Module | None) -> None:
    """Masks of heads from the norms of their inputs' weights, or scores to learn; shapes stay until the freeze."""
    prune_units(model, plan, "head")


register_technique("head_pruning", apply)
