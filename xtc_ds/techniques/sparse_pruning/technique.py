"""Sparse pruning as a technique."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from xtc_ds.layers import add_pruning, swap_class
from xtc_ds.plan import PlanContext, Planned, SparseRow
from xtc_ds.techniques.base import TrainingRun
from xtc_ds.techniques.pruning.technique import Pruning
from xtc_ds.techniques.registry import register_technique
from xtc_ds.techniques.sparse_pruning.plan import plan_sparse
from xtc_ds.techniques.sparse_pruning.step import average_scores, discard_saliencies, take_in_saliencies


class _SparsePruning(Pruning):
    name = "sparse_pruning"

    def plan(self, context: PlanContext) -> Planned:
        return plan_sparse(context)

    def apply(self, model: nn.Module, rows: Sequence[SparseRow], teacher: nn.Module | None) -> None:
        for row in rows:
            add_pruning(swap_class(model.get_submodule(row.module)), row)

    def before_step(self, run: TrainingRun) -> None:
        # The step may change the scale.
        run.memory[self.name] = run.loss_scale() if _scores_weights(run) else 1.0

    def after_step(self, run: TrainingRun, step: int) -> None:
        take_in_saliencies(run, step, run.memory.pop(self.name, 1.0))

    def skipped_step(self, run: TrainingRun) -> None:
        discard_saliencies(run)

    def before_save(self, run: TrainingRun) -> None:
        average_scores(run)

    def after_load(self, run: TrainingRun) -> None:
        discard_saliencies(run)


def _scores_weights(run: TrainingRun) -> bool:
    return any(rule.method == "snip_momentum" for layer in run.layers for rule in layer.pruning_rules)


register_technique(_SparsePruning())
