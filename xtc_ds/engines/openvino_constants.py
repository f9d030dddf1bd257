"""Stores packed codes in OpenVINO's small integer types.

A constant of type ``u1`` to ``u6`` that is followed by a conversion stays small in the file and is converted when the
model is compiled. Values are unsigned; the first is in the highest bits of a byte, except for ``u2`` and ``u4``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset15 as ops
from torch import Tensor

from xtc_ds.formats.bits import pack_bits
from xtc_ds.runtime.packed import PackedLayer

__all__ = ["codes_of_layer", "constant", "small_type"]


def small_type(low: int, high: int, two_levels: bool) -> tuple[Any, int]:
    """The smallest element type for codes from ``low`` to ``high``, and its bits. two_levels: the codes are binary."""
    if two_levels:
        return ov.Type.u1, 1
    bits = (high - low).bit_length()
    for size, element in ((2, ov.Type.u2), (3, ov.Type.u3), (4, ov.Type.u4), (6, ov.Type.u6)):
        if bits <= size:
            return element, size
    return ov.Type.i8, 8


def codes_of_layer(layer: PackedLayer) -> Any:
    """The int8 codes of the layer's weight in the spec's shape, as the output of an operator."""
    spec, codes = layer.spec, layer.codes().cpu()
    low, high = spec.weight_format.code_range
    element, bits = small_type(low, high, spec.weight_format.name == "binary")
    if bits == 8:
        return constant(codes.numpy())
    step = high - low if bits == 1 else 1
    values = ((codes.reshape(-1).to(torch.int16) - low) // step).to(torch.uint8)
    stored = ops.convert(_packed_constant(_packed(values, bits), spec.shape, element), "i8")
    if step > 1:
        stored = ops.multiply(stored, constant(np.int8(step)))
    return ops.add(stored, constant(np.int8(low)))


def constant(values: Any) -> Any:
    """A constant with its own copy of ``values``."""
    return ops.constant(values, shared_memory=False)


def _packed_constant(packed: Tensor, shape: tuple[int, ...], element: Any) -> Any:
    data = packed.numpy()
    # ov.Tensor only borrows the memory of ``data``; the constant makes a copy.
    return ops.constant(ov.Tensor(data, ov.Shape(list(shape)), element), shared_memory=False)


def _packed(values: Tensor, bits: int) -> Tensor:
    """Pack the lowest ``bits`` bits of each value in the layout of OpenVINO."""
    if bits in (2, 4):
        return pack_bits(values, bits)
    if bits == 1:
        return _highest_first(values, 1)
    # Three bytes hold 24 / bits values: two bytes with their low bits, one with their high bits.
    low_bits = {3: 2, 6: 4}[bits]
    per_row = 24 // bits
    rows = torch.nn.functional.pad(values, (0, -len(values) % per_row)).reshape(-1, per_row)
    low = _highest_first((rows & (2**low_bits - 1)).reshape(-1), low_bits).reshape(-1, 2)
    high = _highest_first((rows >> low_bits).reshape(-1), bits - low_bits).reshape(-1, 1)
    return torch.cat([low, high], dim=1).reshape(-1)


def _highest_first(values: Tensor, bits: int) -> Tensor:
    per_byte = 8 // bits
    rows = torch.nn.functional.pad(values, (0, -len(values) % per_byte)).reshape(-1, per_byte)
    return pack_bits(rows.flip(1).reshape(-1), bits)
