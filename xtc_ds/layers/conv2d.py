"""``nn.Conv2d`` with a transformed weight and input.

Shape legend: N = samples, O and I = output and input channels, H, W = height and width.
"""

from __future__ import annotations

from torch import Tensor, nn

from xtc_ds.layer_kinds import register_compressed
from xtc_ds.layers.compressed import CompressedLayer

__all__ = ["CompressedConv2d"]


class CompressedConv2d(CompressedLayer, nn.Conv2d):
    """The class that ``nn.Conv2d`` modules are converted to; padding mode, stride, dilation and groups are kept."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, I, H, W) to (N, O, H, W), or (I, H, W) to (O, H, W) for a single sample."""
        w, bias_O = self.in_force(self.weight, self.bias)
        y: Tensor = self._conv_forward(self.coded_input(self.transformed_input(input)), w, bias_O)
        return y

    def samples(self, x: Tensor) -> Tensor:
        """One row per sample, because a dynamic range covers a whole sample (DeepSpeed's rule)."""
        return x.flatten(1) if x.dim() == 4 else x.reshape(1, -1)


register_compressed("Conv2d", CompressedConv2d)
