"""Functions that several Triton kernels use: unpacking a tile of words, and rescaling the result.

Shape legend: M = tokens, N = output features, K = input features.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["rescaled", "stored_values"]


@triton.jit
def stored_values(words_RW, LANE: tl.constexpr, BITS: tl.constexpr):
    """Unpack lane ``LANE`` of words (R, W) to stored values, in the order of the inputs: int32 (R * 16 / bits, W)."""
    PER: tl.constexpr = 16 // BITS
    ROWS: tl.constexpr = words_RW.shape[0]
    COLUMNS: tl.constexpr = words_RW.shape[1]
    places = tl.arange(0, PER) * BITS + 16 * LANE
    values = (words_RW[:, None, :] >> places[None, :, None]) & (2**BITS - 1)
    return tl.reshape(values, (ROWS * PER, COLUMNS))


@triton.jit
def rescaled(total_MN, x_scale_M, w_scale_N, bias_ptr, offs_N, N, HAS_BIAS: tl.constexpr):
    """``total * x_scale * w_scale + bias``, rounded after each operation as in the reference ``linear_on_codes``."""
    y_MN = total_MN.to(tl.float32) * x_scale_M[:, None] * w_scale_N[None, :]
    if HAS_BIAS:
        y_MN += tl.load(bias_ptr + offs_N, mask=offs_N < N, other=0.0).to(tl.float32)[None, :]
    return y_MN
