"""Products for tens of tokens: words are unpacked tile by tile and multiplied on the tensor cores.

Shape legend: M = tokens, N = output features, K = input features, R = rows of words, W = words in a row.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from xtc_ds.kernels.triton.availability import interpreted
from xtc_ds.kernels.triton.launch import Config, Tuner, bucket, on_device
from xtc_ds.kernels.triton.layout import STORED, TritonWeight
from xtc_ds.kernels.triton.parts import rescaled, stored_values
from xtc_ds.kernels.triton.quantize import InputCodes

__all__ = ["float_tile_product", "tile_product"]

# n counts words in a row, half the outputs of a block. k counts inputs.
_TUNER = Tuner(
    [Config(16, 16, 128, 4, 3), Config(16, 32, 128, 4, 4), Config(32, 32, 128, 4, 3), Config(64, 64, 64, 4, 3)]
)


def tile_product(x: InputCodes, weight: TritonWeight, scale: Tensor, bias: Tensor | None, y_MN: Tensor) -> None:
    """Compute the product of input codes and a weight of 1, 2 or 4 bits into ``y_MN``."""
    _launch(x.codes, x.sums, x.scale, weight, scale, bias, y_MN, True)


def float_tile_product(x_MK: Tensor, weight: TritonWeight, scale: Tensor, bias: Tensor | None, y_MN: Tensor) -> None:
    """Compute the product of a contiguous half-precision input and the weight into ``y_MN``.

    The weight is rounded to the input's dtype. scale: float32 (N,); for weights of up to 2 bits, whose values are 0 or
    the scale times a signed power of two, it must already be rounded to the input's dtype.
    """
    _launch(x_MK, scale, scale, weight, scale, bias, y_MN, False)


def _launch(
    x: Tensor,
    x_sums: Tensor,
    x_scale: Tensor,
    weight: TritonWeight,
    scale: Tensor,
    bias: Tensor | None,
    y_MN: Tensor,
    integer: bool,
) -> None:
    tokens, outputs = y_MN.shape
    rows, columns = weight.words.shape
    mul, off = STORED[weight.bits]

    def run(config: Config) -> None:
        grid = (triton.cdiv(tokens, config.m) * triton.cdiv(columns, config.n),)
        _tiles[grid](
            x, x_sums, x_scale, weight.words, scale, scale if bias is None else bias, y_MN, tokens, outputs,
            columns, x.shape[1], rows, weight.bits, mul, off, integer, not integer and weight.bits > 2,
            bias is not None, interpreted(), config.m, config.n, config.k, num_warps=config.warps,
            num_stages=config.stages, enable_fp_fusion=not integer,
        )  # fmt: skip

    most = bucket(tokens)
    with on_device(y_MN):
        _TUNER.launch((rows, columns, weight.bits, most, x.dtype, y_MN.device), run, lambda config: config.m <= most)


@triton.jit
def _tiles(
    x_ptr,
    code_sums_ptr,
    x_scale_ptr,
    words_ptr,
    w_scale_ptr,
    bias_ptr,
    y_ptr,
    M,
    N,
    columns,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    BITS: tl.constexpr,
    MUL: tl.constexpr,
    OFF: tl.constexpr,
    INTEGER: tl.constexpr,
    SCALE_FIRST: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    INTERPRETED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    PER: tl.constexpr = 16 // BITS
    blocks_W = tl.cdiv(columns, BLOCK_W)
    offs_M = tl.program_id(0) // blocks_W * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_W = tl.program_id(0) % blocks_W * BLOCK_W + tl.arange(0, BLOCK_W)
    inside_M, inside_W = offs_M < M, offs_W < columns
    rows_M = offs_M.to(tl.int64)
    low_scale_W = tl.load(w_scale_ptr + offs_W, mask=inside_W, other=0.0)
    high_N = offs_W + columns
    high_scale_W = tl.load(w_scale_ptr + high_N, mask=high_N < N, other=0.0)
    SUM: tl.constexpr = tl.int32 if INTEGER else tl.float32
    low_MW = tl.zeros((BLOCK_M, BLOCK_W), SUM)
    high_MW = tl.zeros((BLOCK_M, BLOCK_W), SUM)
    for start in range(0, ROWS * PER, BLOCK_K):
        offs_K = start + tl.arange(0, BLOCK_K)
        offs_R = start // PER + tl.arange(0, BLOCK_K // PER)
        inside_MK = inside_M[:, None] & (offs_K < K)[None, :]
        x_MK = tl.load(x_ptr + rows_M[:, None] * K + offs_K[None, :], mask=inside_MK, other=0)
        words_RW = tl.load(
            words_ptr + offs_R.to(tl.int64)[:, None] * columns + offs_W[None, :], mask=inside_W[None, :], other=0
        )
        low_KW = stored_values(words_RW, 0, BITS)
        high_KW = stored_values(words_RW, 1, BITS)
        if INTEGER:
            low_MW = tl.dot(x_MK, low_KW.to(tl.int8), low_MW, out_dtype=tl.int32)
            high_MW = tl.dot(x_MK, high_KW.to(tl.int8), high_MW, out_dtype=tl.int32)
        else:
            low_w_KW = (low_KW * MUL + OFF).to(tl.float32)
            high_w_KW = (high_KW * MUL + OFF).to(tl.float32)
            if SCALE_FIRST:
                low_w_KW *= low_scale_W[None, :]
                high_w_KW *= high_scale_W[None, :]
            if INTERPRETED:  # the interpreter cannot multiply bfloat16
                x_MK = x_MK.to(tl.float32)
                low_w_KW = low_w_KW.to(x_ptr.dtype.element_ty).to(tl.float32)
                high_w_KW = high_w_KW.to(x_ptr.dtype.element_ty).to(tl.float32)
            low_MW = tl.dot(x_MK, low_w_KW.to(x_MK.dtype), low_MW)
            high_MW = tl.dot(x_MK, high_w_KW.to(x_MK.dtype), high_MW)
    x_scale_M = tl.full((BLOCK_M,), 1.0, tl.float32)
    if INTEGER:
        x_scale_M = tl.load(x_scale_ptr + offs_M, mask=inside_M, other=0.0)
        code_sum_M = tl.load(code_sums_ptr + offs_M, mask=inside_M, other=0)
        low_MW = low_MW * MUL + OFF * code_sum_M[:, None]
        high_MW = high_MW * MUL + OFF * code_sum_M[:, None]
    if SCALE_FIRST:
        low_scale_W = tl.full((BLOCK_W,), 1.0, tl.float32)
        high_scale_W = tl.full((BLOCK_W,), 1.0, tl.float32)
    low_y_MW = rescaled(low_MW, x_scale_M, low_scale_W, bias_ptr, offs_W, N, HAS_BIAS)
    high_y_MW = rescaled(high_MW, x_scale_M, high_scale_W, bias_ptr, high_N, N, HAS_BIAS)
    y_ptrs = y_ptr + rows_M[:, None] * N + offs_W[None, :]
    tl.store(y_ptrs, low_y_MW.to(y_ptr.dtype.element_ty), mask=inside_M[:, None] & inside_W[None, :])
    inside_high_W = inside_W & (high_N < N)
    tl.store(y_ptrs + columns, high_y_MW.to(y_ptr.dtype.element_ty), mask=inside_M[:, None] & inside_high_W[None, :])
