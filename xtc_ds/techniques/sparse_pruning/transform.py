"""Masks that set single weights, or blocks of them, to zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xtc_ds.layers import CompressedLayer, WeightInForce
from xtc_ds.techniques.pruning.masks import Mask
from xtc_ds.techniques.sparse_pruning.patterns import parse_pattern
from xtc_ds.techniques.sparse_pruning.rows import SparseRow
from xtc_ds.techniques.sparse_pruning.snip import GradualSchedule, SnipMomentum, scored_product

__all__ = ["MOMENTUM", "SparseMask", "gradual_schedule"]

# Name of the submodule that holds the scores of snip_momentum.
MOMENTUM = "snip_momentum"


@dataclass(frozen=True)
class SparseMask(Mask):
    """A mask of the weight's shape."""

    row: SparseRow

    technique = "sparse_pruning"
    mask_name = "sparse_pruning_mask"
    scores_name = "sparse_mask_scores"

    def norms(self, w: Tensor) -> Tensor:
        """The magnitudes of the weights."""
        return w.abs()

    def scores_shape(self) -> tuple[int, ...]:
        """One score for each weight."""
        return self.row.shape

    def mask_of(self, scores: Tensor) -> Tensor:
        """The mask that keeps the largest scores, according to the pattern."""
        pattern = parse_pattern(self.row.block_pattern)
        return pattern.mask(pattern.unit_scores(scores), self.row.dense_ratio, self.row.shape)

    def multiply(self, mask: Tensor, w: Tensor, bias_O: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Multiply only the weight."""
        return w * mask, bias_O

    def add_tensors(self, layer: nn.Module, w: Tensor) -> None:
        """As in ``Mask``; with snip_momentum all weights are kept until there are scores."""
        if self.row.method != "snip_momentum":
            super().add_tensors(layer, w)
            return
        layer.register_buffer(self.mask_name, torch.ones(self.row.shape, dtype=w.dtype, device=w.device))
        layer.add_module(MOMENTUM, SnipMomentum(parse_pattern(self.row.block_pattern), self.row.shape, w.device))

    def at(self, layer: CompressedLayer, step: int) -> WeightInForce | None:
        """Active from the offset on; snip_momentum also scores the weights until its mask is final."""
        in_force = super().at(layer, step)
        if self.row.method == "snip_momentum" and step < gradual_schedule(self.row).last:
            return _Scored(self, in_force is not None)
        return in_force

    def weight_mask(self, layer: CompressedLayer) -> Tensor | None:
        """Mask of the kept weights; for snip_momentum as of its last update."""
        return self.shipped(layer).bool()

    def renew(self, layer: CompressedLayer, step: int) -> None:
        """Recompute the mask of snip_momentum from its scores, with the density for ``step``, in place."""
        momentum: SnipMomentum = getattr(layer, MOMENTUM)
        mask: Tensor = getattr(layer, self.mask_name)
        ratio = gradual_schedule(self.row).dense_ratio_at(step)
        mask.copy_(momentum.pattern.mask(momentum.scores, ratio, self.row.shape))

    def remove(self, layer: CompressedLayer) -> None:
        """Remove the mask and the scores."""
        super().remove(layer)
        assert isinstance(layer, nn.Module)
        layer._modules.pop(MOMENTUM, None)


class _Scored(WeightInForce):
    """In training, the backward pass also collects the saliency of each weight, including masked ones."""

    def __init__(self, transform: SparseMask, in_force: bool) -> None:
        self.transform, self.in_force = transform, in_force

    def __call__(
        self, layer: CompressedLayer, w: Tensor, bias_O: Tensor | None, rows_O: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        if layer.training and torch.is_grad_enabled():
            mask: Tensor = getattr(layer, self.transform.mask_name)
            return scored_product(w, mask.to(w.dtype), getattr(layer, MOMENTUM)), bias_O
        return self.transform(layer, w, bias_O) if self.in_force else (w, bias_O)


def gradual_schedule(row: SparseRow) -> GradualSchedule:
    """The schedule by which snip_momentum's mask becomes sparser."""
    return GradualSchedule(row.offset, row.end, row.stride, row.dense_ratio)
