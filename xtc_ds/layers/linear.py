"""``nn.Linear`` with a quantized weight and input."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from xtc_ds.layers.compressed import CompressedLayer

__all__ = ["CompressedLinear"]


class CompressedLinear(CompressedLayer, nn.Linear):
    """What ``nn.Linear`` modules are swapped to."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        return F.linear(self.quantized_input(input), self.quantized(self.weight), self.bias)
