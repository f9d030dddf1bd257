"""Linear layers on GPUs; the number of tokens determines which kernel runs.

Shape legend: T = tokens, I = input features, O = output features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xtc_ds.kernels.triton.decode import MOST_TOKENS, decode_product
from xtc_ds.kernels.triton.launch import result_dtype
from xtc_ds.kernels.triton.layout import TritonWeight, triton_weight
from xtc_ds.kernels.triton.matrix import matrix_product, unpacked_codes, unpacked_values
from xtc_ds.kernels.triton.quantize import InputCodes, quantize_input
from xtc_ds.kernels.triton.tile_product import float_tile_product, tile_product

__all__ = [
    "InputCodes",
    "TritonWeight",
    "code_product",
    "linear",
    "quantize_input",
    "triton_weight",
    "weight_only_linear",
]

# From this many tokens on, unpacking the weight once per call costs less than unpacking it once per block of tokens.
_MANY_TOKENS = 128


def linear(
    x: Tensor,
    weight: TritonWeight,
    scale: Tensor,
    bias: Tensor | None,
    x_bits: int = 8,
    x_scale: Tensor | None = None,
) -> Tensor:
    """``x`` (T, I) quantized to ``x_bits`` bits, times the weight, plus bias: (T, O) in the dtype of ``x``.

    scale: float32 (O,). bias: (O,). x_scale: float32 (1,), scale of a static input range; None for one dynamic scale
    per token. All tensors must be on one device.
    """
    return code_product(quantize_input(x, x_bits, x_scale), weight, scale, bias, x.dtype)


def code_product(
    x: InputCodes, weight: TritonWeight, scale: Tensor, bias: Tensor | None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Input codes times the weight, summed exactly, rescaled once, plus bias: (T, O) in ``dtype``."""
    tokens = x.codes.shape[0]
    y_TO = _result(tokens, weight, x.codes, dtype)
    if tokens == 0:
        return y_TO.to(dtype)
    if weight.bits < 8 and tokens <= MOST_TOKENS:
        decode_product(x, weight, scale, bias, y_TO)
    elif weight.bits < 8 and tokens < _MANY_TOKENS:
        tile_product(x, weight, scale, bias, y_TO)
    else:
        matrix_product(x, unpacked_codes(weight), scale, bias, y_TO)
    return y_TO.to(dtype)


def weight_only_linear(x: Tensor, weight: TritonWeight, scale: Tensor, bias: Tensor | None) -> Tensor:
    """``x`` (T, I), float16 or bfloat16, times the weight rounded to its dtype, plus bias: (T, O) in that dtype.

    Equal to the product with the decoded weight up to the order of float sums.
    """
    tokens = x.shape[0]
    if tokens == 0:
        return _result(tokens, weight, x, x.dtype).to(x.dtype)
    if weight.bits == 8 or tokens >= _MANY_TOKENS:
        return F.linear(x, unpacked_values(weight, scale, x.dtype), None if bias is None else bias.to(x.dtype))
    y_TO = _result(tokens, weight, x, x.dtype)
    # Codes of 1 and 2 bits are -2, -1, 0 or 1, so rounding the scale is the same as rounding the weights.
    rounded = scale.to(x.dtype).float() if weight.bits <= 2 else scale
    float_tile_product(x.contiguous(), weight, rounded, bias, y_TO)
    return y_TO.to(x.dtype)


def _result(tokens: int, weight: TritonWeight, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Uninitialized memory for a result that the caller casts to ``dtype``."""
    return torch.empty((tokens, weight.outputs), dtype=result_dtype(dtype), device=like.device)
