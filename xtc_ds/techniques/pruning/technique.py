"""The base class of the four pruning techniques."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from xtc_ds.errors import Problem
from xtc_ds.layers import CompressedLayer, compressed_layers
from xtc_ds.plan import PlanContext, Row
from xtc_ds.techniques.base import Technique, TrainingRun
from xtc_ds.techniques.pruning.masks import Mask
from xtc_ds.techniques.pruning.ranks import broadcast_masks
from xtc_ds.techniques.pruning.ties import check_pruning_ties

__all__ = ["Pruning"]


class Pruning(Technique):
    """Masks from norms, equal on all ranks, or from learned scores. mask_class: the class of its transforms."""

    mask_class: ClassVar[type[Mask]]
    # Quantize weights before masking them, so that scales are those of the whole weight.
    after: ClassVar[tuple[str, ...]] = ("layer_reduction", "weight_quantization")
    empty_report: ClassVar[Mapping[str, Any]] = {"pruning": []}

    def check(self, rows: Sequence[Row], context: PlanContext) -> list[Problem]:
        """Shared weights must be pruned in the same way in all modules that use them."""
        return check_pruning_ties(self.name, rows, context.modules)

    def changes_parameters(self, rows: Sequence[Any]) -> bool:
        """True for learned scores, which are parameters, and for snip_momentum, whose buffers the backward fills."""
        return any(row.method != "l1" for row in rows)

    def added_parameters(self, model: nn.Module) -> Iterable[tuple[str, nn.Parameter, nn.Parameter | None]]:
        """The learned scores, trained with the optimizer options of their weight."""
        for name, layer in compressed_layers(model):
            assert isinstance(layer, nn.Module)
            for mask in self._masks(layer):
                if (scores := layer._parameters.get(mask.scores_name)) is not None:
                    yield f"{name}.{mask.scores_name}".lstrip("."), scores, layer._parameters["weight"]

    def start(self, run: TrainingRun) -> None:
        """Replace the masks, made from each rank's own weights, by those of rank 0."""
        found = (getattr(layer, mask.mask_name, None) for layer in run.layers for mask in self._masks(layer))
        broadcast_masks([mask for mask in found if mask is not None])

    def _masks(self, layer: CompressedLayer) -> Iterator[Mask]:
        # Compare the technique, not the class: row and channel pruning use the same class.
        for transform in layer.weight_transforms:
            if isinstance(transform, self.mask_class) and transform.technique == self.name:
                yield transform
