"""Hugging Face's ``Conv1D`` (a Linear with transposed weight) with transformed weight and input."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from xtc_ds.layer_kinds import register_compressed
from xtc_ds.layers.compressed import CompressedLayer

__all__ = ["CompressedConv1D"]


class CompressedConv1D(CompressedLayer, Conv1D):  # type: ignore[misc]
    """The class that ``Conv1D`` modules are converted to. The weight is stored as (I, O); scales are per output."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        x = self.transformed_input(x)
        y = self.product_on_codes(x, self.weight.t(), self.bias)
        if y is not None:
            return y
        w_OI, bias_O = self.in_force(self.weight.t(), self.bias)
        assert bias_O is not None
        y_TO = torch.addmm(bias_O, self.coded_input(x).reshape(-1, x.size(-1)), w_OI.t())
        return y_TO.reshape(*x.shape[:-1], self.nf)


register_compressed("Conv1D", CompressedConv1D)
