"""Linear layers that train with an integer forward: codes times codes, the gradient straight through.

Equal to fake quantization up to the order of float sums: the forward multiplies codes exactly and rescales once; the
backward takes the values that the codes stand for. What is kept for the backward is int8.

Shape legend: T = tokens, I = input features, O = output features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from xtc_ds.formats import ActivationFormat
from xtc_ds.kernels.dispatch import integer_product
from xtc_ds.kernels.input_codes import QuantizedInput, quantized_once
from xtc_ds.kernels.native import TiledWeight, decode_rows, native_library, tiled_product
from xtc_ds.zero import is_partitioned

__all__ = ["WeightCodes", "cpu_multiplies_integers_fast", "cuda_multiplies_integers_fast", "integer_linear"]


@dataclass(frozen=True)
class WeightCodes:
    """codes: int8 (O, I). scale: float32 (O,). tiles: the codes as the native kernel takes them, if it is there."""

    codes: Tensor
    scale: Tensor
    tiles: TiledWeight | None


@cache
def cpu_multiplies_integers_fast() -> bool:
    """Whether this processor multiplies int8 codes faster than floats."""
    library = native_library()
    return (library is not None and library.path > 0) or torch.cpu._is_vnni_supported()


def cuda_multiplies_integers_fast(inputs: int, outputs: int) -> bool:
    """Whether cuBLASLt multiplies int8 matrices of these sizes."""
    return inputs % 8 == 0 and outputs % 8 == 0


def integer_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    encode: Callable[[Tensor], WeightCodes],
    activation_format: ActivationFormat,
    range_: Tensor | None = None,
) -> Tensor:
    """``x`` (..., I) times ``weight`` (O, I), both as their codes stand for them, plus ``bias``: (..., O).

    encode: the codes of the weight, with one scale per output; called again in the backward where ZeRO-3 keeps the
        weight in parts, so that no rank holds all codes. Symmetric activation formats only. Under autocast the
        result has autocast's dtype, else that of ``x``.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    codes = quantized_once(x, activation_format, range_)
    result: Tensor = _IntegerLinear.apply(x, weight, bias, encode, codes, dtype)  # type: ignore[no-untyped-call]
    return result


class _IntegerLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        encode: Callable[[Tensor], WeightCodes],
        codes: QuantizedInput,
        dtype: torch.dtype,
    ) -> Tensor:
        weight_codes = encode(weight)
        y_TO = _product(codes, weight_codes, bias, dtype)
        ctx.encode = encode if is_partitioned(weight) else None
        ctx.weight_dtype, ctx.x_dtype, ctx.x_shape = weight.dtype, x.dtype, x.shape
        kept = (weight, None) if ctx.encode else (weight_codes.codes, weight_codes.scale)
        ctx.save_for_backward(codes.codes, codes.scale, *kept)
        return y_TO.reshape(*x.shape[:-1], y_TO.shape[-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x_codes_TI, x_scale_T1, w, w_scale_O = ctx.saved_tensors
        if ctx.encode is not None:
            encoded = ctx.encode(w)
            w, w_scale_O = encoded.codes, encoded.scale
        grad_TO = grad.reshape(-1, grad.shape[-1])
        needs_x, needs_w, needs_bias, *_ = ctx.needs_input_grad
        grad_x = grad_w = grad_bias = None
        # Decoding the codes is cheaper than scaling the gradient: as many numbers, but one byte of each is read.
        if needs_x:
            grad_x = grad_TO @ _decoded(w, w_scale_O, grad.dtype)
            grad_x = grad_x.to(ctx.x_dtype).reshape(ctx.x_shape)
        if needs_w:
            grad_w = (grad_TO.t() @ _decoded(x_codes_TI, x_scale_T1, grad.dtype)).to(ctx.weight_dtype)
        if needs_bias:
            grad_bias = grad_TO.sum(0)
        return grad_x, grad_w, grad_bias, None, None, None


def _decoded(codes_RN: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    written = dtype in (torch.float32, torch.bfloat16) and codes_RN.device.type == "cpu"
    if written and not torch.compiler.is_compiling() and native_library() is not None:
        return decode_rows(codes_RN, scale.flatten(), dtype)
    return (codes_RN * scale.reshape(-1, 1)).to(dtype)


def _product(x: QuantizedInput, weight: WeightCodes, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    if x.native is not None and weight.tiles is not None:
        float_bias = None if bias is None else bias.float().contiguous()
        return tiled_product(x.native, weight.tiles, weight.scale, float_bias, dtype)
    y_TO = integer_product(x.codes, weight.codes).float()
    y_TO = y_TO.mul_(x.scale).mul_(weight.scale)
    return (y_TO if bias is None else y_TO.add_(bias)).to(dtype)
