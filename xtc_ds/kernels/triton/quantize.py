"""Quantizes inputs, bit-identical to ``ActivationFormat``.

Shape legend: T = tokens, I = input features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from xtc_ds.kernels.triton.launch import on_device
from xtc_ds.kernels.triton.layout import padded

__all__ = ["InputCodes", "quantize_input"]

# Adding and then subtracting this number rounds floats below 2**22 to integers, ties to even.
_ROUNDING = tl.constexpr(1.5 * 2**23)
_LARGEST_BLOCK = 8192


@dataclass(frozen=True)
class InputCodes:
    """Symmetric codes of an input (T, I).

    codes: int8 (T, padded I); padding is 0. sums: int32 (T,), row sums of the codes. scale: float32 (T,).
    """

    codes: Tensor
    sums: Tensor
    scale: Tensor
    inputs: int


def quantize_input(x: Tensor, bits: int, scale: Tensor | None = None) -> InputCodes:
    """Quantize ``x`` (T, I), float16, bfloat16 or float32 with any strides, to symmetric codes of ``bits`` bits.

    scale: float32 (1,) on the device of ``x``, scale of a static range; None for one dynamic scale per token.
    """
    tokens, inputs = x.shape
    codes = InputCodes(
        torch.empty((tokens, padded(inputs)), dtype=torch.int8, device=x.device),
        torch.empty(tokens, dtype=torch.int32, device=x.device),
        torch.empty(tokens, dtype=torch.float32, device=x.device),
        inputs,
    )
    if tokens:
        block = min(triton.next_power_of_2(padded(inputs)), _LARGEST_BLOCK)
        with on_device(x):
            _quantize_rows[(tokens,)](
                x, codes.scale if scale is None else scale, codes.codes, codes.sums, codes.scale, *x.stride(),
                inputs, codes.codes.shape[1], bits, scale is not None, block, num_warps=8 if block > 2048 else 4,
                enable_fp_fusion=False,
            )  # fmt: skip
    return codes


@triton.jit
def _quantize_rows(
    x_ptr,
    static_ptr,
    codes_ptr,
    sums_ptr,
    scale_ptr,
    stride_row,
    stride_column,
    INPUTS: tl.constexpr,
    PADDED: tl.constexpr,
    BITS: tl.constexpr,
    STATIC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    x_ptr += row * stride_row
    if STATIC:
        scale = tl.load(static_ptr)
    else:
        largest_B = tl.zeros((BLOCK,), tl.float32)
        nan_B = tl.zeros((BLOCK,), tl.int32)
        for start in range(0, INPUTS, BLOCK):
            offs_B = start + tl.arange(0, BLOCK)
            x_B = tl.load(x_ptr + offs_B.to(tl.int64) * stride_column, mask=offs_B < INPUTS, other=0.0).to(tl.float32)
            largest_B = tl.maximum(largest_B, tl.abs(x_B))
            nan_B |= (x_B != x_B).to(tl.int32)
        scale = 2.0 * tl.max(largest_B, 0) * 2.0**-BITS
        # tl.maximum ignores NaN, but a NaN in a token must make its whole output NaN.
        scale = tl.where(tl.max(nan_B, 0) > 0, float("nan"), scale)
    # An all-zero token has scale 0 and codes 0.
    step = tl.where(scale == 0.0, 1.0, scale)
    total_B = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, PADDED, BLOCK):
        offs_B = start + tl.arange(0, BLOCK)
        x_B = tl.load(x_ptr + offs_B.to(tl.int64) * stride_column, mask=offs_B < INPUTS, other=0.0).to(tl.float32)
        value_B = tl.div_rn(x_B, tl.full((BLOCK,), 0.0, tl.float32) + step)
        value_B = tl.where(value_B == value_B, value_B, 0.0)
        value_B = tl.minimum(tl.maximum(value_B, -(2.0 ** (BITS - 1))), 2.0 ** (BITS - 1) - 1.0)
        code_B = ((value_B + _ROUNDING) - _ROUNDING).to(tl.int32)
        total_B += code_B
        tl.store(codes_ptr + row * PADDED + offs_B, code_B.to(tl.int8), mask=offs_B < PADDED)
    tl.store(sums_ptr + row, tl.sum(total_B, 0))
    tl.store(scale_ptr + row, scale)
