"""Distillation as a technique."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from xtc_ds.distillation.projection import PROJECTION_NAME
from xtc_ds.plan import PlanContext, Planned
from xtc_ds.techniques.base import Technique
from xtc_ds.techniques.kd.plan import plan_distillation
from xtc_ds.techniques.kd.rows import DistillationRow
from xtc_ds.techniques.registry import register_technique


class _Distillation(Technique):
    name = "kd"
    after = ("layer_reduction",)
    uses_teacher = True

    def plan(self, context: PlanContext) -> Planned:
        return plan_distillation(context)

    def apply(self, model: nn.Module, rows: Sequence[DistillationRow], teacher: nn.Module | None) -> None:
        """No-op: ``attach_distillation`` does the work, with the compressed model and a teacher on the same device."""

    def changes_parameters(self, rows: Sequence[DistillationRow]) -> bool:
        return bool(rows)

    def added_parameters(self, model: nn.Module) -> Iterator[tuple[str, nn.Parameter, None]]:
        projection = model._modules.get(PROJECTION_NAME)
        if projection is not None:
            for name, parameter in projection.named_parameters(prefix=PROJECTION_NAME):
                yield name, parameter, None

    def training_only(self, name: str) -> bool:
        return name == PROJECTION_NAME


register_technique(_Distillation())
