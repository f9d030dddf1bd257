"""``nn.Embedding`` with a quantized table."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from xtc_ds.layer_kinds import register_compressed
from xtc_ds.layers.compressed import CompressedLayer

__all__ = ["CompressedEmbedding"]


class CompressedEmbedding(CompressedLayer, nn.Embedding):
    """What ``nn.Embedding`` modules are swapped to."""

    def forward(self, input: Tensor) -> Tensor:
        """Ids (...) to vectors (..., D)."""
        if self.weight_format is None or self.weight_rule is None or self.weight_rule.grouping.kind != "row":
            return self._lookup(input, self.quantized(self.weight))
        # A row's codes depend on that row alone: quantize the few rows looked up instead of the table.
        rows = self._lookup(input, self.weight)
        return self.quantized(rows.reshape(-1, rows.shape[-1]), input.reshape(-1)).reshape(rows.shape)

    def _lookup(self, ids: Tensor, table: Tensor) -> Tensor:
        return F.embedding(
            ids, table, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        )


register_compressed("Embedding", CompressedEmbedding)
