"""Linear layers that train with an integer forward pass and the straight-through estimator.

They equal fake quantization up to the order of float sums: the forward pass multiplies codes exactly and rescales once;
the backward pass uses the dequantized values. The activations saved for the backward pass are int8.

Shape legend: T = tokens, I = input features, O = output features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from xtc_ds.formats import ActivationFormat, WeightFormat
from xtc_ds.kernels.backward import gradients
from xtc_ds.kernels.input_codes import QuantizedInput, quantized_once
from xtc_ds.kernels.integer_product import integer_product
from xtc_ds.kernels.native import CodePlanes, TiledWeight, native_library, tile_weight, tiled_product
from xtc_ds.zero import is_partitioned

__all__ = [
    "WeightCodes",
    "WeightLayout",
    "cpu_multiplies_integers_fast",
    "integer_linear",
    "plain_layout",
    "tiled_layout",
]


@dataclass(frozen=True)
class WeightCodes:
    """codes: int8 (O, I), or packed in fewer bits if ``tiles`` are present. scale: float32 (O,).

    tiles: the codes in the layout of the native kernel, if that multiplies them.
    """

    codes: Tensor | CodePlanes
    scale: Tensor
    tiles: TiledWeight | None


#: converts int8 codes (O, I) and float32 scales (O,) of a format to the layout that forward and backward read
WeightLayout = Callable[[Tensor, Tensor, WeightFormat], WeightCodes]


def plain_layout(codes_OI: Tensor, scale_O: Tensor, weight_format: WeightFormat) -> WeightCodes:
    """The layout for products in plain torch: the codes unchanged."""
    return WeightCodes(codes_OI, scale_O, None)


def tiled_layout(codes_OI: Tensor, scale_O: Tensor, weight_format: WeightFormat) -> WeightCodes:
    """The layout for the native CPU kernel: tiles for the forward pass, tightly packed codes for the backward pass."""
    tiles = tile_weight(codes_OI, weight_format)
    return WeightCodes(codes_OI if tiles.bits == 8 else CodePlanes.of(codes_OI, tiles.bits), scale_O, tiles)


@cache
def cpu_multiplies_integers_fast() -> bool:
    """Whether int8 products are faster than float products on this processor."""
    library = native_library()
    return (library is not None and library.path > 0) or torch.cpu._is_vnni_supported()


def integer_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    encode: Callable[[Tensor], WeightCodes],
    activation_format: ActivationFormat,
    range_: Tensor | None = None,
    backward_dtype: torch.dtype | None = None,
) -> Tensor:
    """Quantized ``x`` (..., I) times quantized ``weight`` (O, I), plus ``bias``: (..., O).

    encode: returns the codes of the weight, with one scale per output. It is called again in the backward pass where
        ZeRO-3 partitions the weight, so that no rank keeps all codes. activation_format: symmetric.
    backward_dtype: dtype of the products in the backward pass; None: that of the result.

    The result has the autocast dtype under autocast, else the dtype of ``x``.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    codes = quantized_once(x, activation_format, range_)
    result: Tensor = _IntegerLinear.apply(x, weight, bias, encode, codes, dtype, backward_dtype)  # type: ignore[no-untyped-call]
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
        backward_dtype: torch.dtype | None,
    ) -> Tensor:
        weight_codes = encode(weight)
        y_TO = _product(codes, weight_codes, bias, dtype)
        ctx.encode = encode if is_partitioned(weight) else None
        ctx.backward_dtype = backward_dtype
        ctx.weight_dtype, ctx.x_dtype, ctx.x_shape = weight.dtype, x.dtype, x.shape
        ctx.columns = not weight.is_contiguous() and weight.t().is_contiguous()  # the layout of Conv1D
        w_codes, ctx.planes = weight_codes.codes, None
        if isinstance(w_codes, CodePlanes):
            ctx.planes = w_codes.inputs, w_codes.bits
            w_codes = w_codes.planes
        kept = (weight, None) if ctx.encode else (w_codes, weight_codes.scale)
        ctx.save_for_backward(codes.codes, codes.scale, *kept)
        return y_TO.reshape(*x.shape[:-1], y_TO.shape[-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x_codes_TI, x_scale_T1, w, w_scale_O = ctx.saved_tensors
        if ctx.encode is not None:
            encoded = ctx.encode(w)
            w, w_scale_O = encoded.codes, encoded.scale
        elif ctx.planes is not None:
            w = CodePlanes(w, *ctx.planes)
        grad_TO = grad.reshape(-1, grad.shape[-1])
        needs_x, needs_w, needs_bias, *_ = ctx.needs_input_grad
        grad_x, grad_w = gradients(
            grad_TO, x_codes_TI, x_scale_T1, w, w_scale_O, (needs_x, needs_w), ctx.backward_dtype, ctx.columns
        )
        if grad_x is not None:
            grad_x = grad_x.to(ctx.x_dtype).reshape(ctx.x_shape)
        if grad_w is not None:
            grad_w = grad_w.to(ctx.weight_dtype)
        return grad_x, grad_w, grad_TO.sum(0) if needs_bias else None, None, None, None, None


def _product(x: QuantizedInput, weight: WeightCodes, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    if x.native is not None and weight.tiles is not None:
        float_bias = None if bias is None else bias.float().contiguous()
        return tiled_product(x.native, weight.tiles, weight.scale, float_bias, dtype)
    w_OI = weight.codes
    if isinstance(w_OI, CodePlanes):
        w_OI = w_OI.decode(None, torch.float32).to(torch.int8)
    y_TO = integer_product(x.codes, w_OI).float()
    y_TO = y_TO.mul_(x.scale).mul_(weight.scale)
    return (y_TO if bias is None else y_TO.add_(bias)).to(dtype)
