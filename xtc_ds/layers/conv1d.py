"""Hugging Face's ``Conv1D`` (a Linear that stores its weight transposed) with a quantized weight and input."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from xtc_ds.layers.compressed import CompressedLayer

__all__ = ["CompressedConv1D"]


class CompressedConv1D(CompressedLayer, Conv1D):  # type: ignore[misc]
    """What ``Conv1D`` modules are swapped to. The stored weight is (I, O); scales belong to outputs."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        w_IO = self.quantized(self.weight.t()).t()
        y_TO = torch.addmm(self.bias, self.quantized_input(x).reshape(-1, x.size(-1)), w_IO)
        return y_TO.reshape(*x.shape[:-1], self.nf)
