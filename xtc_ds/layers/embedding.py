"""``nn.Embedding`` with a transformed table."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from xtc_ds.layer_kinds import register_compressed
from xtc_ds.layers.compressed import CompressedLayer

__all__ = ["CompressedEmbedding"]


class CompressedEmbedding(CompressedLayer, nn.Embedding):
    """The class that ``nn.Embedding`` modules are converted to."""

    def forward(self, input: Tensor) -> Tensor:
        """Ids (...) to vectors (..., D)."""
        if not self.weight_in_force or not all(each.by_row for each in self.weight_in_force):
            return self._lookup(input, self.in_force(self.weight, None)[0])
        # The transforms work row by row, so transform only the rows that are looked up instead of the whole table.
        rows = self._lookup(input, self.weight)
        return self.in_force(rows.reshape(-1, rows.shape[-1]), None, input.reshape(-1))[0].reshape(rows.shape)

    def _lookup(self, ids: Tensor, table: Tensor) -> Tensor:
        return F.embedding(
            ids, table, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        )


register_compressed("Embedding", CompressedEmbedding)
