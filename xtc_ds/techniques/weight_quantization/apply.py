"""Give each planned module its weight rule."""

from __future__ import annotations

from torch import nn

from xtc_ds.layers import swap_class
from xtc_ds.plan import CompressionPlan
from xtc_ds.techniques.registry import register_technique

__all__ = ["apply"]


def apply(model: nn.Module, plan: CompressionPlan, teacher: nn.Module | None) -> None:
    """Swap the class of every planned module; nothing else of it changes."""
    for row in plan.weights:
        swap_class(model.get_submodule(row.module)).weight_rule = row


register_technique("weight_quantization", apply)
