"""Set whole attention heads to zero: blocks of input columns of the output projection.

Shape legend: O and I = output and input features, H = heads.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from xtc_ds.layers import CompressedLayer
from xtc_ds.techniques.head_pruning.attributes import head_attributes
from xtc_ds.techniques.pruning.norms import head_norms
from xtc_ds.techniques.pruning.unit_masks import UnitMask

__all__ = ["HeadMask"]


class HeadMask(UnitMask):
    """A mask of shape (1, H)."""

    scores_name = "head_pruning_scores"

    def norms(self, w: Tensor) -> Tensor:
        """L1 norms of the blocks of columns, (1, H)."""
        return head_norms(w, self.row.units)

    def scores_shape(self) -> tuple[int, ...]:
        """(1, H)."""
        return (1, self.row.units)

    def multiply(self, mask: Tensor, w: Tensor, bias_O: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Multiply the columns of the weight. This order of operations gives exactly DeepSpeed's gradients."""
        heads = w.t().reshape(self.row.units, -1) * mask.view(-1, 1)
        return heads.reshape(w.shape[1], w.shape[0]).t(), bias_O

    def kept_inputs(self, layer: CompressedLayer) -> Tensor | None:
        """The inputs of the kept heads, if the masked heads will be cut off; else None."""
        if not self.row.related or layer.step is None or layer.step < self.row.offset:
            return None
        return self._columns(self.mask(layer).detach().flatten().bool()).nonzero().flatten()

    def weight_mask(self, layer: CompressedLayer) -> Tensor | None:
        """Mask of the kept columns, if the others become zeros; None if they are cut off."""
        return None if self.row.related else self._columns(self.kept_units(layer)).expand(self.row.shape)

    def module_attributes(self, model: nn.Module) -> Mapping[str, Mapping[str, int]]:
        """The changed head counts of attention modules."""
        return head_attributes(model, self.row) if self.row.related else {}

    def _columns(self, kept_H: Tensor) -> Tensor:
        return kept_H.repeat_interleave(self.row.shape[1] // self.row.units)
