"""Products for very few tokens (autoregressive decoding): plain integer arithmetic, one pass over the packed words.

One 32-bit multiplication computes products of two outputs, in two 16-bit lanes. Input codes are shifted to 0..255 and
stored values are nonnegative, so no lane borrows from its neighbour; lanes are emptied before they can overflow.

Shape legend: M = tokens, N = output features, R = rows of words, W = words in a row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from xtc_ds.kernels.triton.launch import Config, Tuner, on_device
from xtc_ds.kernels.triton.layout import STORED, TritonWeight
from xtc_ds.kernels.triton.parts import rescaled
from xtc_ds.kernels.triton.quantize import InputCodes

__all__ = ["MOST_TOKENS", "decode_product"]

# Each token costs one pass over the weight; for more than two tokens the tensor cores are faster.
MOST_TOKENS = 2
# n counts words in a row, k rows of words.
_TUNER = Tuner([Config(1, 16, 64, 4, 1), Config(1, 32, 32, 4, 1), Config(1, 8, 128, 4, 1), Config(1, 16, 128, 8, 1)])
# Number of blocks whose sum fits a lane: 4 * (16 / bits) * (2**bits - 1) * 255 < 2**16 for 1, 2 and 4 bits.
_UNROLLED = tl.constexpr(4)


def decode_product(x: InputCodes, weight: TritonWeight, scale: Tensor, bias: Tensor | None, y_MN: Tensor) -> None:
    """Compute the product for up to ``MOST_TOKENS`` tokens into ``y_MN``; for weights of 1, 2 or 4 bits."""
    tokens, outputs = y_MN.shape
    rows, columns = weight.words.shape
    mul, off = STORED[weight.bits]

    def run(config: Config) -> None:
        _decode[(triton.cdiv(columns, config.n), tokens)](
            x.codes.view(torch.int32), x.sums, x.scale, weight.words, weight.sums, scale,
            scale if bias is None else bias, y_MN, outputs, columns, rows, weight.bits, mul, off, bias is not None,
            config.k, config.n, num_warps=config.warps, enable_fp_fusion=False,
        )  # fmt: skip

    with on_device(y_MN):
        _TUNER.launch((rows, columns, weight.bits, tokens, y_MN.device), run)


@triton.jit
def _decode(
    quads_ptr,
    code_sums_ptr,
    x_scale_ptr,
    words_ptr,
    value_sums_ptr,
    w_scale_ptr,
    bias_ptr,
    y_ptr,
    N,
    columns,
    ROWS: tl.constexpr,
    BITS: tl.constexpr,
    MUL: tl.constexpr,
    OFF: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    QUADS: tl.constexpr = 4 // BITS  # input codes are read four per 32-bit word
    MASK: tl.constexpr = (2**BITS - 1) * 65537  # selects one value in each of both lanes
    token = tl.program_id(1)
    quads_ptr += token * (ROWS * QUADS)
    offs_W = tl.program_id(0) * BLOCK_W + tl.arange(0, BLOCK_W)
    inside_W = offs_W < columns
    low_RW = tl.zeros((BLOCK_R, BLOCK_W), tl.int32)
    high_RW = tl.zeros((BLOCK_R, BLOCK_W), tl.int32)
    for start in range(0, ROWS, BLOCK_R * _UNROLLED):
        lanes_RW = tl.zeros((BLOCK_R, BLOCK_W), tl.int32)
        for part in tl.static_range(_UNROLLED):
            offs_R = start + part * BLOCK_R + tl.arange(0, BLOCK_R)
            inside_R = offs_R < ROWS
            words_RW = tl.load(
                words_ptr + offs_R.to(tl.int64)[:, None] * columns + offs_W[None, :],
                mask=inside_R[:, None] & inside_W[None, :],
                other=0,
            )
            for quad in tl.static_range(QUADS):
                codes_R = tl.load(quads_ptr + offs_R * QUADS + quad, mask=inside_R, other=0)
                for place in tl.static_range(4):
                    # Flipping the sign bit adds 128.
                    x_R = ((codes_R >> (8 * place)) & 255) ^ 128
                    values_RW = (words_RW >> ((4 * quad + place) * BITS)) & MASK
                    lanes_RW += values_RW * x_R[:, None]
        low_RW += lanes_RW & 0xFFFF
        high_RW += (lanes_RW >> 16) & 0xFFFF
    code_sum = tl.load(code_sums_ptr + token)
    x_scale = tl.load(x_scale_ptr + token)
    for lane in tl.static_range(2):
        total_W = tl.sum(low_RW if lane == 0 else high_RW, 0)
        offs_N = offs_W + lane * columns
        inside_N = inside_W & (offs_N < N)
        value_sum_W = tl.load(value_sums_ptr + offs_N, mask=inside_N, other=0)
        w_scale_W = tl.load(w_scale_ptr + offs_N, mask=inside_N, other=0.0)
        total_W = (total_W - 128 * value_sum_W) * MUL + OFF * code_sum
        y_W = rescaled(total_W[None, :], x_scale[None], w_scale_W, bias_ptr, offs_N, N, HAS_BIAS)
        tl.store(y_ptr + token * N + offs_N[None, :], y_W.to(y_ptr.dtype.element_ty), mask=inside_N[None, :])
