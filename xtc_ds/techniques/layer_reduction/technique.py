"""Layer reduction as a technique."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from xtc_ds.plan import PlanContext, Planned
from xtc_ds.techniques.base import Technique
from xtc_ds.techniques.layer_reduction.apply import reduce_layers
from xtc_ds.techniques.layer_reduction.plan import modules_after, plan_reduction
from xtc_ds.techniques.layer_reduction.rows import ReductionRow
from xtc_ds.techniques.registry import register_technique


class _LayerReduction(Technique):
    name = "layer_reduction"
    uses_teacher = True
    empty_report: ClassVar[Mapping[str, Any]] = {"layer_reduction": None}

    def plan(self, context: PlanContext) -> Planned:
        row = plan_reduction(context.model, context.section, context.teacher)
        return Planned([row], modules=modules_after(context.modules, row))

    def apply(self, model: nn.Module, rows: Sequence[ReductionRow], teacher: nn.Module | None) -> None:
        for row in rows:
            reduce_layers(model, row, teacher)

    def changes_parameters(self, rows: Sequence[ReductionRow]) -> bool:
        return bool(rows)


register_technique(_LayerReduction())
