"""``nn.Linear`` with a transformed weight and input."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from xtc_ds.layer_kinds import register_compressed
from xtc_ds.layers.compressed import CompressedLayer

__all__ = ["CompressedLinear"]


class CompressedLinear(CompressedLayer, nn.Linear):
    """The class that ``nn.Linear`` modules are converted to."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        input = self.transformed_input(input)
        y = self.product_on_codes(input, self.weight, self.bias)
        if y is not None:
            return y
        w_OI, bias_O = self.in_force(self.weight, self.bias)
        return F.linear(self.coded_input(input), w_OI, bias_O)


register_compressed("Linear", CompressedLinear)
