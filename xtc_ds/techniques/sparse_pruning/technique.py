"""Sparse pruning as a technique."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from xtc_ds.errors import Problem
from xtc_ds.layers import add_pruning, swap_class
from xtc_ds.plan import PlanContext, Planned, Row, SparseRow
from xtc_ds.techniques.base import Technique
from xtc_ds.techniques.pruning.ties import check_pruning_ties
from xtc_ds.techniques.registry import register_technique
from xtc_ds.techniques.sparse_pruning.plan import plan_sparse


class _SparsePruning(Technique):
    name = "sparse_pruning"
    # Weights are quantized before they are masked: scales are those of the whole weight.
    after = ("layer_reduction", "weight_quantization")

    def plan(self, context: PlanContext) -> Planned:
        return plan_sparse(context)

    def check(self, rows: Sequence[Row], context: PlanContext) -> list[Problem]:
        return check_pruning_ties(self.name, rows, context.modules)

    def apply(self, model: nn.Module, rows: Sequence[SparseRow], teacher: nn.Module | None) -> None:
        for row in rows:
            add_pruning(swap_class(model.get_submodule(row.module)), row)

    def changes_parameters(self, rows: Sequence[SparseRow]) -> bool:
        return any(row.method != "l1" for row in rows)


register_technique(_SparsePruning())
