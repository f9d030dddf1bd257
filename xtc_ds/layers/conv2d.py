"""``nn.Conv2d`` with a quantized and pruned weight and a quantized input.

Shape legend: N = samples, O and I = output and input channels, H, W = height and width.
"""

from __future__ import annotations

from torch import Tensor, nn

from xtc_ds.layer_kinds import register_compressed
from xtc_ds.layers.compressed import CompressedLayer

__all__ = ["CompressedConv2d"]


class CompressedConv2d(CompressedLayer, nn.Conv2d):
    """What ``nn.Conv2d`` modules are swapped to; padding modes, strides, dilation and groups stay their own."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, I, H, W) to (N, O, H, W); without N for one sample."""
        w, bias_O = self.in_force(self.weight, self.bias)
        y: Tensor = self._conv_forward(self.quantized_input(self.live_input(input)), w, bias_O)
        return y

    def _quantized_input(self, x: Tensor) -> Tensor:
        # A dynamic range is of a whole sample (DeepSpeed's rule).
        samples = x.flatten(1) if x.dim() == 4 else x.reshape(1, -1)
        return super()._quantized_input(samples).reshape(x.shape)


register_compressed("Conv2d", CompressedConv2d)
