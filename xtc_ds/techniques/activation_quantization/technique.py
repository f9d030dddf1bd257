"""Activation quantization as a technique."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from xtc_ds.layers import swap_class
from xtc_ds.plan import PlanContext, Planned
from xtc_ds.techniques.activation_quantization.plan import plan_activations
from xtc_ds.techniques.activation_quantization.rows import ActivationRow
from xtc_ds.techniques.activation_quantization.step import synchronize_ranges
from xtc_ds.techniques.activation_quantization.transform import QuantizedInput
from xtc_ds.techniques.base import Technique, TrainingRun
from xtc_ds.techniques.registry import register_technique


class _ActivationQuantization(Technique):
    name = "activation_quantization"
    empty_report: ClassVar[Mapping[str, Any]] = {"modules": []}
    after = ("layer_reduction", "weight_quantization")

    def plan(self, context: PlanContext) -> Planned:
        return plan_activations(context)

    def apply(self, model: nn.Module, rows: Sequence[ActivationRow], teacher: nn.Module | None) -> None:
        for row in rows:
            QuantizedInput(row).attach(swap_class(model.get_submodule(row.module)))

    def after_step(self, run: TrainingRun, step: int) -> None:
        synchronize_ranges(run.layers)


register_technique(_ActivationQuantization())
