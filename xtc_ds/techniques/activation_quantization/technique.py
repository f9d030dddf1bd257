"""Activation quantization as a technique."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from xtc_ds.layers import RangeObserver, swap_class
from xtc_ds.plan import ActivationRow, PlanContext, Planned
from xtc_ds.techniques.activation_quantization.plan import plan_activations
from xtc_ds.techniques.activation_quantization.step import synchronize_ranges
from xtc_ds.techniques.base import Technique, TrainingRun
from xtc_ds.techniques.registry import register_technique


class _ActivationQuantization(Technique):
    name = "activation_quantization"
    after = ("layer_reduction", "weight_quantization")

    def plan(self, context: PlanContext) -> Planned:
        return plan_activations(context)

    def apply(self, model: nn.Module, rows: Sequence[ActivationRow], teacher: nn.Module | None) -> None:
        for row in rows:
            module = model.get_submodule(row.module)
            swap_class(module).activation_rule = row
            if row.format.calibration == "static":
                device = next((p.device for p in module.parameters()), torch.device("cpu"))
                module.activation_quantizer = RangeObserver().to(device).train(module.training)

    def after_step(self, run: TrainingRun, step: int) -> None:
        synchronize_ranges(run.layers)


register_technique(_ActivationQuantization())
