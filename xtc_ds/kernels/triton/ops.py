"""The kernels as torch operators on packed weights, which ``torch.compile`` and ``torch.export`` can trace.

Quantization of the input is a separate operator, so that a graph can run it once for layers that share an input.

Shape legend: T = tokens, I = input features, O = output features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xtc_ds.formats import get_format
from xtc_ds.kernels.triton.layout import padded
from xtc_ds.kernels.triton.linear import code_product, weight_only_linear
from xtc_ds.kernels.triton.quantize import InputCodes, quantize_input
from xtc_ds.kernels.triton.words import words_of

__all__: list[str] = []


@torch.library.custom_op("xtc_ds::triton_quantize", mutates_args=())
def _quantize(x: Tensor, bits: int, scale: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    codes = quantize_input(x, bits, scale)
    return codes.codes, codes.sums, codes.scale


@_quantize.register_fake
def _(x: Tensor, bits: int, scale: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    tokens, inputs = x.shape
    return (
        x.new_empty((tokens, padded(inputs)), dtype=torch.int8),
        x.new_empty((tokens,), dtype=torch.int32),
        x.new_empty((tokens,), dtype=torch.float32),
    )


@torch.library.custom_op("xtc_ds::triton_product", mutates_args=())
def _product(
    codes: Tensor,
    code_sums: Tensor,
    x_scale: Tensor,
    packed: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    weight_format: str,
    outputs: int,
    inputs: int,
    whole_bytes: bool,
    dtype: torch.dtype,
) -> Tensor:
    weight = words_of(packed, get_format(weight_format), (outputs, inputs), whole_bytes)
    return code_product(InputCodes(codes, code_sums, x_scale, inputs), weight, scale, bias, dtype)


@_product.register_fake
def _(
    codes: Tensor,
    code_sums: Tensor,
    x_scale: Tensor,
    packed: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    weight_format: str,
    outputs: int,
    inputs: int,
    whole_bytes: bool,
    dtype: torch.dtype,
) -> Tensor:
    return codes.new_empty((codes.shape[0], outputs), dtype=dtype)


@torch.library.custom_op("xtc_ds::triton_weight_only", mutates_args=())
def _weight_only(
    x: Tensor,
    packed: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    weight_format: str,
    outputs: int,
    inputs: int,
    whole_bytes: bool,
) -> Tensor:
    return weight_only_linear(
        x, words_of(packed, get_format(weight_format), (outputs, inputs), whole_bytes), scale, bias
    )


@_weight_only.register_fake
def _(
    x: Tensor,
    packed: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    weight_format: str,
    outputs: int,
    inputs: int,
    whole_bytes: bool,
) -> Tensor:
    torch._check(x.shape[-1] == inputs)  # type: ignore[no-untyped-call]
    return x.new_empty((x.shape[0], outputs))
