"""Weight quantization as a technique."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from xtc_ds.layers import swap_class
from xtc_ds.plan import PlanContext, Planned
from xtc_ds.techniques.base import Technique, TrainingRun
from xtc_ds.techniques.registry import register_technique
from xtc_ds.techniques.weight_quantization.learned import (
    add_learned_parts,
    broadcast_learned_parts,
    learned_parameters,
)
from xtc_ds.techniques.weight_quantization.learned_parts import LearnedParts
from xtc_ds.techniques.weight_quantization.plan import plan_weights
from xtc_ds.techniques.weight_quantization.rows import WeightRow
from xtc_ds.techniques.weight_quantization.transform import QuantizedWeight


class _WeightQuantization(Technique):
    name = "weight_quantization"
    empty_report: ClassVar[Mapping[str, Any]] = {"modules": []}
    after = ("layer_reduction",)

    def plan(self, context: PlanContext) -> Planned:
        return plan_weights(context)

    def apply(self, model: nn.Module, rows: Sequence[WeightRow], teacher: nn.Module | None) -> None:
        learned: dict[int, LearnedParts] = {}
        for row in rows:
            layer = swap_class(model.get_submodule(row.module))
            layer.weight_transforms = (*layer.weight_transforms, QuantizedWeight(row))
            add_learned_parts(layer, row, learned)

    def changes_parameters(self, rows: Sequence[WeightRow]) -> bool:
        return any(row.target_format.learned for row in rows)

    def added_parameters(self, model: nn.Module) -> Iterable[tuple[str, nn.Parameter, nn.Parameter | None]]:
        return learned_parameters(model)

    def start(self, run: TrainingRun) -> None:
        broadcast_learned_parts(run.model)


register_technique(_WeightQuantization())
