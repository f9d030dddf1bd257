"""A linear layer on integer codes, in plain torch.

Shape legend: T = tokens, I = input features, O = output features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xtc_ds.formats import ActivationFormat, Encoded

__all__ = ["integer_product", "linear_on_codes"]


def linear_on_codes(
    x: Tensor, weight: Encoded, activation_format: ActivationFormat, range_: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Quantize ``x`` (..., I), multiply it with the weight encoded by ``weight.codes`` (O, I), add ``bias`` (O,).

    weight: its values are codes times a scale, with one scale per output channel or one per tensor.
    activation_format: must be symmetric. range_: the static (minimum, maximum) of ``x``; None for dynamic quantization.

    Integer codes are multiplied exactly and rescaled once. Returns (..., O) in the dtype of ``x``. This is the
    reference: every kernel returns bit-identical results.
    """
    codes = activation_format.encode(x, range_)
    y_TO = integer_product(codes.codes, weight.codes).to(torch.float32)
    y_TO = y_TO * codes.scale * weight.scale.reshape(1, -1)
    if bias is not None:
        y_TO = y_TO + bias
    return y_TO.to(x.dtype).reshape(*x.shape[:-1], y_TO.shape[-1])


def integer_product(a_TI: Tensor, w_OI: Tensor) -> Tensor:
    """Exact product of int8 codes, (T, O)."""
    if a_TI.device.type == "cpu":
        if a_TI.shape[1] == 1:
            # torch._int_mm mistakes the transposed column for a row and reads out of bounds.
            return a_TI.to(torch.int32) * w_OI.t().to(torch.int32)
        if a_TI.shape[0] == 0:
            return a_TI.new_zeros((0, w_OI.shape[0]), dtype=torch.int32)
        return torch._int_mm(a_TI, w_OI.t())
    # cuBLASLt accepts only more than 16 rows, and sizes that are multiples of 8.
    if a_TI.device.type == "cuda" and a_TI.shape[0] > 16 and not (w_OI.shape[0] % 8 or w_OI.shape[1] % 8):
        return torch._int_mm(a_TI, w_OI.t())
    # Sums of products of 8-bit codes stay below 2**53: double precision is exact.
    return a_TI.double() @ w_OI.t().double()
