"""The steps of snip_momentum: add saliencies to the scores, and update masks when they are due."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xtc_ds.layers import CompressedLayer
from xtc_ds.techniques.base import TrainingRun
from xtc_ds.techniques.pruning.ranks import average_over_ranks
from xtc_ds.techniques.sparse_pruning.snip import SnipMomentum
from xtc_ds.techniques.sparse_pruning.transform import MOMENTUM, SparseMask, gradual_schedule

__all__ = ["average_scores", "discard_saliencies", "scored_layers", "take_in_saliencies"]


def take_in_saliencies(run: TrainingRun, step: int, loss_scale: float) -> None:
    """Add the saliencies of applied step ``step`` to the scores, and update the masks that are due.

    loss_scale: that of the backward passes. Scores are averaged over the ranks only when masks are updated.
    """
    layers = list(scored_layers(run.layers))
    for layer, mask in layers:
        if step <= gradual_schedule(mask.row).last:
            _momentum(layer).take_in(loss_scale)
    due = [(layer, mask) for layer, mask in layers if gradual_schedule(mask.row).is_due(step)]
    average_over_ranks([_momentum(layer).scores for layer, _ in due])
    for layer, mask in due:
        mask.renew(layer, step)


def discard_saliencies(run: TrainingRun) -> None:
    """Discard the saliencies of the current step, after it was skipped for an overflow or a checkpoint was loaded."""
    for layer, _ in scored_layers(run.layers):
        _momentum(layer).discard()


def average_scores(run: TrainingRun) -> None:
    """Average the scores over the ranks, because only one rank writes them to a checkpoint."""
    average_over_ranks([_momentum(layer).scores for layer, _ in scored_layers(run.layers)])


def scored_layers(layers: Iterable[CompressedLayer]) -> Iterator[tuple[CompressedLayer, SparseMask]]:
    """The layers that are pruned by snip_momentum, with their masks."""
    for layer in layers:
        for transform in layer.weight_transforms:
            if isinstance(transform, SparseMask) and transform.row.method == "snip_momentum":
                yield layer, transform


def _momentum(layer: CompressedLayer) -> SnipMomentum:
    momentum: SnipMomentum = getattr(layer, MOMENTUM)
    return momentum
