"""Masks that set whole rows or channels to zero.

Shape legend: O and I = output and input features or channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from xtc_ds.layers import CompressedLayer
from xtc_ds.techniques.pruning.masks import Mask
from xtc_ds.techniques.pruning.norms import channel_norms, row_norms
from xtc_ds.techniques.pruning.top import top_mask
from xtc_ds.techniques.pruning.unit_rows import StructuredRow
from xtc_ds.zero import is_partitioned

__all__ = ["OutputMask", "UnitMask"]

# Attribute of a layer: the learned mask of its last forward, for the layers that read its output.
_LAST_MASK = "unit_mask"


@dataclass(frozen=True)
class UnitMask(Mask):
    """A mask with one value per unit; pruned units are cut off if there are related modules."""

    row: StructuredRow

    @property
    def technique(self) -> str:
        """The technique of the row."""
        return f"{self.row.technique}_pruning"

    @property
    def mask_name(self) -> str:
        """DeepSpeed's name."""
        return f"{self.row.technique}_pruning_mask"

    @property
    def scores_name(self) -> str:
        """DeepSpeed's name."""
        return f"{self.row.technique}_mask_scores"

    def mask_of(self, scores: Tensor) -> Tensor:
        """Mask of the units with the largest scores."""
        return top_mask(scores, self.row.kept)

    def kept_units(self, layer: CompressedLayer) -> Tensor:
        """Mask of the kept units, bool, (units,)."""
        return self.shipped(layer).flatten().bool()


class OutputMask(UnitMask):
    """A mask whose units are outputs, with their bias."""

    def norms(self, w: Tensor) -> Tensor:
        """L1 norms of rows (Linear) or kernels (Conv2d)."""
        return row_norms(w) if w.dim() == 2 else channel_norms(w)

    def scores_shape(self) -> tuple[int, ...]:
        """(O, 1) or (O, 1, 1, 1)."""
        return (self.row.units, *[1] * (len(self.row.shape) - 1))

    def multiply(self, mask: Tensor, w: Tensor, bias_O: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Multiply rows of the weight, and values of the bias."""
        rows = mask.view(-1, *[1] * (w.dim() - 1))
        return w * rows, None if bias_O is None else bias_O * mask.view(-1)

    def mask(self, layer: CompressedLayer) -> Tensor:
        """As in ``Mask``; stored on the layer if ZeRO-3 gathers the scores only in the layer's own forward."""
        mask = super().mask(layer)
        if self.row.method == "topk" and self.row.related and is_partitioned(getattr(layer, self.scores_name)):
            setattr(layer, _LAST_MASK, mask.detach().flatten())
        return mask

    def units_in_force(self, layer: CompressedLayer) -> Tensor | None:
        """1 for each unit kept in the last forward, else 0, (units,); None before the offset."""
        if layer.step is None or layer.step < self.row.offset:
            return None
        if self.row.method != "topk":
            return self.mask(layer).flatten()
        scores: Tensor = getattr(layer, self.scores_name)
        if is_partitioned(scores):
            return getattr(layer, _LAST_MASK, None)
        return self.mask_of(scores.detach()).flatten()

    def weight_mask(self, layer: CompressedLayer) -> Tensor | None:
        """Mask of the kept rows or kernels, if the others become zeros; None if they are cut off."""
        if self.row.related:
            return None
        return self.kept_units(layer).view(-1, *[1] * (len(self.row.shape) - 1)).expand(self.row.shape)

    def bias_mask(self, layer: CompressedLayer) -> Tensor | None:
        """Mask of the kept bias values, if the others become zeros; None if they are cut off."""
        return None if self.row.related else self.kept_units(layer)

    def remove(self, layer: CompressedLayer) -> None:
        """Take mask and scores off."""
        super().remove(layer)
        layer.__dict__.pop(_LAST_MASK, None)
