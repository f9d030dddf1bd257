"""Weight quantization as a technique."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from xtc_ds.layers import swap_class
from xtc_ds.plan import PlanContext, Planned, WeightRow
from xtc_ds.techniques.base import Technique
from xtc_ds.techniques.registry import register_technique
from xtc_ds.techniques.weight_quantization.plan import plan_weights


class _WeightQuantization(Technique):
    name = "weight_quantization"
    after = ("layer_reduction",)

    def plan(self, context: PlanContext) -> Planned:
        return plan_weights(context)

    def apply(self, model: nn.Module, rows: Sequence[WeightRow], teacher: nn.Module | None) -> None:
        for row in rows:
            swap_class(model.get_submodule(row.module)).weight_rule = row


register_technique(_WeightQuantization())
