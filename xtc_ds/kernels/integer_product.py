"""A linear layer on integer codes.

Shape legend: T = tokens, I = input features, O = output features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xtc_ds.formats import ActivationFormat, Encoded, Grouping, WeightFormat, fake_quantize_activation

__all__ = ["linear_on_codes", "product_is_integer"]


def product_is_integer(
    weight_format: WeightFormat, grouping: Grouping, activation_format: ActivationFormat | None
) -> bool:
    """Whether input and weight codes can be multiplied as integers and rescaled after the sum.

    That takes weights that are ``code * scale``, one scale per output row, and a quantized input on a grid around zero.
    """
    return (
        activation_format is not None
        and activation_format.symmetric
        and grouping.per_row
        and weight_format.scaled_codes
    )


def linear_on_codes(
    x: Tensor,
    weight: Encoded,
    weight_format: WeightFormat,
    grouping: Grouping,
    activation_format: ActivationFormat | None,
    range_: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """``x`` (..., I) times the weight that ``weight.codes`` (O, I) stand for, plus ``bias`` (O,).

    Integer codes are multiplied exactly and rescaled once; where that cannot be done, the decoded weight is
    multiplied with the input as its codes stand for it. Returns (..., O) in the dtype of ``x``.
    """
    if activation_format is not None and product_is_integer(weight_format, grouping, activation_format):
        codes = activation_format.encode(x, range_)
        y_TO = integer_product(codes.codes, weight.codes).to(torch.float32)
        y_TO = y_TO * codes.scale * weight.scale.reshape(1, -1)
        if bias is not None:
            y_TO = y_TO + bias
        return y_TO.to(x.dtype).reshape(*x.shape[:-1], y_TO.shape[-1])
    if activation_format is not None:
        x = fake_quantize_activation(x, activation_format, range_)
    w_GN = weight.format.decode(grouping.split(weight.codes), weight.parts)
    return F.linear(x, w_GN.to(x.dtype).reshape(weight.codes.shape), bias)


def integer_product(a_TI: Tensor, w_OI: Tensor) -> Tensor:
    """Exact product of int8 codes, (T, O)."""
    if a_TI.device.type == "cpu":
        if a_TI.shape[1] == 1:
            # torch's product takes the transposed column for a row and reads beyond it.
            return a_TI.to(torch.int32) * w_OI.t().to(torch.int32)
        if a_TI.shape[0] == 0:
            return a_TI.new_zeros((0, w_OI.shape[0]), dtype=torch.int32)
        return torch._int_mm(a_TI, w_OI.t())
    # cuBLASLt takes more than 16 rows and multiples of 8 only.
    if a_TI.device.type == "cuda" and a_TI.shape[0] > 16 and not (w_OI.shape[0] % 8 or w_OI.shape[1] % 8):
        return torch._int_mm(a_TI, w_OI.t())
    # Sums of products of 8-bit codes stay below 2**53: double precision is exact.
    return a_TI.double() @ w_OI.t().double()
