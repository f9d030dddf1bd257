"""What the technique plans, does to a layer, and does in every step.

Shape legend: O and I = output and input features, R = rank.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tests.extension.toy_factors.config import FactorGroup
from xtc_ds.errors import Problem
from xtc_ds.layer_kinds import kind_of, kinds_with, weight_shape
from xtc_ds.layers import CompressedLayer, WeightInForce, WeightTransform, compressed_layers, swap_class
from xtc_ds.plan import PlanContext, Planned, Row
from xtc_ds.plan.matcher import match_groups
from xtc_ds.techniques.base import Technique, TrainingRun
from xtc_ds.techniques.registry import register_technique


@dataclass(frozen=True)
class FactorRow(Row):
    """The weight of one module, (O, I), at a rank."""

    module: str
    group: str
    shape: tuple[int, ...]
    rank: int

    def add_to_report(self, report: dict[str, Any], technique: str, packed_bytes: Mapping[str, int]) -> None:
        report.setdefault(technique, []).append({"module": self.module, "rank": self.rank})

    def treatment(self) -> Hashable:
        return replace(self, module="", group="")

    def main_cells(self) -> Mapping[str, str]:
        return {"shape": " x ".join(map(str, self.shape)), "weights": f"rank {self.rank}", "from step": "0"}


@dataclass(frozen=True)
class Factored(WeightTransform, WeightInForce):
    """The product of two parameters of the layer in place of its weight, which is gone."""

    row: FactorRow
    changes_values = True

    def attach(self, layer: CompressedLayer) -> None:
        assert isinstance(layer, nn.Module)
        weight = layer._parameters["weight"]
        assert weight is not None
        u, s, v = torch.linalg.svd(weight.detach(), full_matrices=False)
        root = s[: self.row.rank].sqrt()
        layer.register_parameter("left_OR", nn.Parameter((u[:, : self.row.rank] * root).contiguous()))
        layer.register_parameter("right_RI", nn.Parameter((root.unsqueeze(1) * v[: self.row.rank]).contiguous()))
        layer._parameters["weight"] = None
        layer.weight_transforms = (*layer.weight_transforms, self)

    def at(self, layer: CompressedLayer, step: int) -> WeightInForce:
        return self

    def __call__(
        self, layer: CompressedLayer, w: Tensor, bias_O: Tensor | None, rows_O: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        return self.final_weight(layer, w), bias_O

    def final_weight(self, layer: CompressedLayer, w: Tensor) -> Tensor:
        product: Tensor = layer.left_OR @ layer.right_RI  # type: ignore[attr-defined]
        return product

    def remove(self, layer: CompressedLayer) -> None:
        assert isinstance(layer, nn.Module)
        for name in ("left_OR", "right_RI"):
            layer._parameters.pop(name, None)


class ToyFactors(Technique):
    """Factors from a singular value decomposition, kept equally large in every step."""

    name = "toy_factors"
    after = ("layer_reduction",)
    # What is quantized is the product.
    before = ("weight_quantization",)
    conflicts = ("row_pruning",)

    def plan(self, context: PlanContext) -> Planned:
        kinds = kinds_with("linear")
        groups: tuple[FactorGroup, ...] = context.section
        owner, problems, warnings = match_groups(groups, context.modules, kinds)
        result = Planned([], problems, warnings)
        for name, group in owner.items():
            module = context.modules[name]
            if kind_of(module) not in kinds:
                continue  # reported by the matcher
            shape = weight_shape(module)
            if group.rank > min(shape):
                what = f"rank {group.rank} is above that of '{name}' of shape {shape}; allowed: up to {min(shape)}"
                result.problems.append(Problem(f"{group.path}.params.rank", what))
            result.rows.append(FactorRow(name, group.name, shape, group.rank))
        return result

    def apply(self, model: nn.Module, rows: Sequence[FactorRow], teacher: nn.Module | None) -> None:
        for row in rows:
            Factored(row).attach(swap_class(model.get_submodule(row.module)))

    def changes_parameters(self, rows: Sequence[FactorRow]) -> bool:
        return bool(rows)

    def added_parameters(self, model: nn.Module) -> Iterator[tuple[str, nn.Parameter, None]]:
        for name, layer in _factored(model):
            for key in ("left_OR", "right_RI"):
                yield f"{name}.{key}", layer.get_parameter(key), None

    def start(self, run: TrainingRun) -> None:
        run.memory[self.name] = 0

    def after_step(self, run: TrainingRun, step: int) -> None:
        run.memory[self.name] += 1

    def state_dict(self, run: TrainingRun) -> Mapping[str, Any]:
        return {"steps": run.memory[self.name]}

    def load_state_dict(self, run: TrainingRun, state: Mapping[str, Any]) -> None:
        run.memory[self.name] = state["steps"]


def _factored(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in compressed_layers(model):
        if any(isinstance(each, Factored) for each in layer.weight_transforms):
            assert isinstance(layer, nn.Module)
            yield name, layer


register_technique(ToyFactors())
