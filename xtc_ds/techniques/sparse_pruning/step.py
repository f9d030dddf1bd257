"""The steps of snip_momentum: saliencies are taken into the scores, and masks are renewed when they are due."""

from __future__ import annotations

from collections.abc import Iterator

from xtc_ds.layers import CompressedLayer
from xtc_ds.layers.masks import gradual_schedule
from xtc_ds.plan.rows import SparseRow
from xtc_ds.pruning import SnipMomentum
from xtc_ds.techniques.base import TrainingRun
from xtc_ds.techniques.pruning.ranks import average_over_ranks

__all__ = ["average_scores", "discard_saliencies", "take_in_saliencies"]


def take_in_saliencies(run: TrainingRun, step: int, loss_scale: float) -> None:
    """After applied step ``step``: take the saliencies into the scores, and renew the masks that are due.

    loss_scale: of the backward passes. Scores are averaged over the ranks only when masks are renewed.
    """
    layers = list(_scored_layers(run))
    for layer, rule in layers:
        if step <= gradual_schedule(rule).last:
            _momentum(layer).take_in(loss_scale)
    due = [layer for layer, rule in layers if gradual_schedule(rule).is_due(step)]
    average_over_ranks([_momentum(layer).scores for layer in due])
    for layer in due:
        layer.renew_sparse_mask(step)


def discard_saliencies(run: TrainingRun) -> None:
    """Drop the saliencies of a step that was skipped for an overflow, or that a loaded checkpoint ended."""
    for layer, _ in _scored_layers(run):
        _momentum(layer).discard()


def average_scores(run: TrainingRun) -> None:
    """Make the scores equal on all ranks, for a checkpoint that one of them writes."""
    average_over_ranks([_momentum(layer).scores for layer, _ in _scored_layers(run)])


def _scored_layers(run: TrainingRun) -> Iterator[tuple[CompressedLayer, SparseRow]]:
    for layer in run.layers:
        for rule in layer.pruning_rules:
            if isinstance(rule, SparseRow) and rule.method == "snip_momentum":
                yield layer, rule


def _momentum(layer: CompressedLayer) -> SnipMomentum:
    momentum: SnipMomentum = layer.snip_momentum  # type: ignore[attr-defined]
    return momentum
