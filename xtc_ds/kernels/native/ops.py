"""The kernel as a torch operator, so that ``torch.compile`` and ``torch.export`` can trace layers that use it."""

from __future__ import annotations

import torch
from torch import Tensor

from xtc_ds.kernels.native.linear import TiledWeight, quantize_input, tiled_product

__all__ = ["traceable_linear"]


@torch.library.custom_op("xtc_ds::tiled_linear", mutates_args=(), device_types="cpu")
def _tiled_linear(
    x: Tensor,
    tiles: Tensor,
    sums: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    inputs: int,
    bits: int,
    x_bits: int,
    x_scale: float | None,
) -> Tensor:
    codes = quantize_input(x, x_bits, x_scale)
    return tiled_product(codes, TiledWeight(tiles, sums, inputs, bits), scale, bias, x.dtype)


@_tiled_linear.register_fake
def _(
    x: Tensor,
    tiles: Tensor,
    sums: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    inputs: int,
    bits: int,
    x_bits: int,
    x_scale: float | None,
) -> Tensor:
    torch._check(x.dim() == 2)  # type: ignore[no-untyped-call]
    torch._check(x.shape[1] == inputs)  # type: ignore[no-untyped-call]
    return x.new_empty((x.shape[0], sums.shape[0]))


def traceable_linear(
    x: Tensor, weight: TiledWeight, scale: Tensor, bias: Tensor | None, x_bits: int, x_scale: float | None
) -> Tensor:
    """``x`` (T, I) quantized and multiplied as one operator; slower to call than the functions themselves."""
    result: Tensor = _tiled_linear(
        x, weight.tiles, weight.sums, scale, bias, weight.inputs, weight.bits, x_bits, x_scale
    )
    return result
