"""What all four prunings have in common as techniques."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from torch import nn

from xtc_ds.errors import Problem
from xtc_ds.layers import compressed_layers
from xtc_ds.layers.masks import TENSOR_NAMES
from xtc_ds.plan import PlanContext, Row
from xtc_ds.techniques.base import Technique, TrainingRun
from xtc_ds.techniques.pruning.ranks import broadcast_masks
from xtc_ds.techniques.pruning.ties import check_pruning_ties

__all__ = ["Pruning"]


class Pruning(Technique):
    """Masks from norms, equal on all ranks, or from scores that the optimizer learns."""

    # Weights are quantized before they are masked: scales are those of the whole weight.
    after: ClassVar[tuple[str, ...]] = ("layer_reduction", "weight_quantization")

    def check(self, rows: Sequence[Row], context: PlanContext) -> list[Problem]:
        """Weights that several modules share must be pruned in all of them in the same way."""
        return check_pruning_ties(self.name, rows, context.modules)

    def changes_parameters(self, rows: Sequence[Any]) -> bool:
        """Learned scores are parameters; those of snip_momentum are buffers that collect in the backward pass."""
        return any(row.method != "l1" for row in rows)

    def added_parameters(self, model: nn.Module) -> Iterable[tuple[str, nn.Parameter, nn.Parameter | None]]:
        """Learned scores, trained with the options of their weight."""
        key = TENSOR_NAMES[self.name].scores
        for name, layer in compressed_layers(model):
            assert isinstance(layer, nn.Module)
            if (scores := layer._parameters.get(key)) is not None:
                yield f"{name}.{key}".lstrip("."), scores, layer._parameters["weight"]

    def start(self, run: TrainingRun) -> None:
        """Masks made from the weights of each rank become those of rank 0."""
        key = TENSOR_NAMES[self.name].mask
        found = (layer._buffers.get(key) for layer in run.layers if isinstance(layer, nn.Module))
        broadcast_masks([mask for mask in found if mask is not None])
