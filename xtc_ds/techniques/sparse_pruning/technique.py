"""Sparse pruning as a technique."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from xtc_ds.layers import CompressedLayer, swap_class
from xtc_ds.plan import PlanContext, Planned
from xtc_ds.techniques.base import TrainingRun
from xtc_ds.techniques.pruning.technique import Pruning
from xtc_ds.techniques.registry import register_technique
from xtc_ds.techniques.sparse_pruning.density import warn_of_density
from xtc_ds.techniques.sparse_pruning.plan import plan_sparse
from xtc_ds.techniques.sparse_pruning.rows import SparseRow
from xtc_ds.techniques.sparse_pruning.step import (
    average_scores,
    discard_saliencies,
    scored_layers,
    take_in_saliencies,
)
from xtc_ds.techniques.sparse_pruning.transform import MOMENTUM, SparseMask


class _SparsePruning(Pruning):
    name = "sparse_pruning"
    mask_class = SparseMask

    def plan(self, context: PlanContext) -> Planned:
        return plan_sparse(context)

    def apply(self, model: nn.Module, rows: Sequence[SparseRow], teacher: nn.Module | None) -> None:
        for row in rows:
            SparseMask(row).attach(swap_class(model.get_submodule(row.module)))

    def before_step(self, run: TrainingRun) -> None:
        # Record the loss scale now, because the step may change it.
        run.memory[self.name] = run.loss_scale() if _scores_weights(run) else 1.0

    def after_step(self, run: TrainingRun, step: int) -> None:
        take_in_saliencies(run, step, run.memory.pop(self.name, 1.0))

    def skipped_step(self, run: TrainingRun) -> None:
        discard_saliencies(run)

    def before_save(self, run: TrainingRun) -> None:
        average_scores(run)

    def after_load(self, run: TrainingRun) -> None:
        discard_saliencies(run)

    def training_only(self, name: str) -> bool:
        return name.rpartition(".")[2] == MOMENTUM

    def before_freeze(self, layers: Mapping[str, CompressedLayer]) -> None:
        warn_of_density(layers)


def _scores_weights(run: TrainingRun) -> bool:
    return any(True for _ in scored_layers(run.layers))


register_technique(_SparsePruning())
