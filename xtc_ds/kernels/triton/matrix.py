"""Products for many tokens: int8 times int8 on the tensor cores.

Packed weights are unpacked once per call into memory from torch's caching allocator; for many tokens this takes a small
part of the time of the product.

Shape legend: M = tokens, N = output features, K = input features, R = rows of words, W = words in a row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from xtc_ds.kernels.triton.launch import Config, Tuner, bucket, on_device, result_dtype
from xtc_ds.kernels.triton.layout import INPUT_MULTIPLE, STORED, TritonWeight, padded
from xtc_ds.kernels.triton.parts import rescaled, stored_values
from xtc_ds.kernels.triton.quantize import InputCodes

__all__ = ["matrix_product", "unpacked_codes", "unpacked_values"]

# n counts outputs. k counts inputs and must divide INPUT_MULTIPLE.
_TUNER = Tuner([
    Config(16, 32, 128, 4, 3),
    Config(16, 128, 128, 4, 4),
    Config(64, 64, 128, 4, 3),
    Config(128, 128, 64, 4, 3),
    Config(128, 128, 128, 8, 3),
    Config(128, 256, 128, 8, 3),
])  # fmt: skip


def unpacked_codes(weight: TritonWeight) -> Tensor:
    """The int8 codes (O, padded I) of a weight; with 8 bits this is the weight's own memory, not a copy."""
    if weight.bits == 8:
        return weight.words
    codes = torch.empty((weight.outputs, padded(weight.inputs)), dtype=torch.int8, device=weight.words.device)
    _launch_unpack(weight, codes, None)
    return codes


def unpacked_values(weight: TritonWeight, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The decoded weight (O, I) in ``dtype``."""
    if weight.bits == 8:
        return (weight.words[:, : weight.inputs] * scale.unsqueeze(1)).to(dtype)
    shape = (weight.outputs, padded(weight.inputs))
    values = torch.empty(shape, dtype=result_dtype(dtype), device=weight.words.device)
    _launch_unpack(weight, values, scale)
    return values[:, : weight.inputs].to(dtype)


def _launch_unpack(weight: TritonWeight, out: Tensor, scale: Tensor | None) -> None:
    columns = weight.words.shape[1]
    mul, off = STORED[weight.bits]
    grid = (triton.cdiv(columns, 32), out.shape[1] // INPUT_MULTIPLE)
    with on_device(out):
        _unpack[grid](
            weight.words, out if scale is None else scale, out, weight.outputs, columns, out.shape[1], weight.bits,
            mul, off, scale is not None, 32, INPUT_MULTIPLE,
        )  # fmt: skip


@triton.jit
def _unpack(
    words_ptr,
    scale_ptr,
    out_ptr,
    N,
    columns,
    PADDED: tl.constexpr,
    BITS: tl.constexpr,
    MUL: tl.constexpr,
    OFF: tl.constexpr,
    SCALED: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    PER: tl.constexpr = 16 // BITS
    offs_W = tl.program_id(0) * BLOCK_W + tl.arange(0, BLOCK_W)
    offs_K = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    offs_R = tl.program_id(1) * (BLOCK_K // PER) + tl.arange(0, BLOCK_K // PER)
    inside_W = offs_W < columns
    words_RW = tl.load(
        words_ptr + offs_R.to(tl.int64)[:, None] * columns + offs_W[None, :], mask=inside_W[None, :], other=0
    )
    for lane in tl.static_range(2):
        offs_N = offs_W + lane * columns
        inside_N = inside_W & (offs_N < N)
        values_KW = stored_values(words_RW, lane, BITS) * MUL + OFF
        if SCALED:
            values_KW = values_KW.to(tl.float32) * tl.load(scale_ptr + offs_N, mask=inside_N, other=0.0)[None, :]
        out_ptrs = out_ptr + offs_N.to(tl.int64)[None, :] * PADDED + offs_K[:, None]
        tl.store(out_ptrs, values_KW.to(out_ptr.dtype.element_ty), mask=inside_N[None, :])


def matrix_product(x: InputCodes, codes: Tensor, scale: Tensor, bias: Tensor | None, y_MN: Tensor) -> None:
    """Compute the product of input codes and a weight's ``codes`` (O, padded I) into ``y_MN``."""
    tokens, outputs = y_MN.shape

    def run(config: Config) -> None:
        grid = (triton.cdiv(tokens, config.m) * triton.cdiv(outputs, config.n),)
        _matrix[grid](
            x.codes, x.scale, codes, scale, scale if bias is None else bias, y_MN, tokens, outputs, codes.shape[1],
            bias is not None, config.m, config.n, config.k, 8, num_warps=config.warps, num_stages=config.stages,
            enable_fp_fusion=False,
        )  # fmt: skip

    most = bucket(tokens)
    with on_device(y_MN):
        _TUNER.launch((*codes.shape, most, y_MN.device), run, lambda config: config.m <= most)


@triton.jit
def _matrix(
    codes_ptr,
    x_scale_ptr,
    w_ptr,
    w_scale_ptr,
    bias_ptr,
    y_ptr,
    M,
    N,
    PADDED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
):
    # Programs are grouped so that neighbours share rows of tokens and of weights, which then stay in the L2 cache.
    blocks_M, blocks_N = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    pid = tl.program_id(0)
    first = pid // (GROUP * blocks_N) * GROUP
    rows = tl.minimum(blocks_M - first, GROUP)
    offs_M = (first + pid % (GROUP * blocks_N) % rows) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_N = pid % (GROUP * blocks_N) // rows * BLOCK_N + tl.arange(0, BLOCK_N)
    inside_M, inside_N = offs_M < M, offs_N < N
    offs_K = tl.arange(0, BLOCK_K)
    # Rows beyond the end read the last one; their results are not stored.
    x_ptrs = codes_ptr + tl.minimum(offs_M, M - 1).to(tl.int64)[:, None] * PADDED + offs_K[None, :]
    w_ptrs = w_ptr + tl.minimum(offs_N, N - 1).to(tl.int64)[None, :] * PADDED + offs_K[:, None]
    total_MN = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    for start in range(0, PADDED, BLOCK_K):
        total_MN = tl.dot(tl.load(x_ptrs + start), tl.load(w_ptrs + start), total_MN, out_dtype=tl.int32)
    x_scale_M = tl.load(x_scale_ptr + offs_M, mask=inside_M, other=0.0)
    w_scale_N = tl.load(w_scale_ptr + offs_N, mask=inside_N, other=0.0)
    y_MN = rescaled(total_MN, x_scale_M, w_scale_N, bias_ptr, offs_N, N, HAS_BIAS)
    y_ptrs = y_ptr + offs_M.to(tl.int64)[:, None] * N + offs_N[None, :]
    tl.store(y_ptrs, y_MN.to(y_ptr.dtype.element_ty), mask=inside_M[:, None] & inside_N[None, :])
