"""Look-up tables from packed bytes to codes; every engine has an operator (gather) that applies them."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from xtc_ds.formats import WeightFormat
from xtc_ds.runtime.packed import PackedLayer

__all__ = ["byte_table", "codes_per_byte", "plane_table", "rows_of_bytes"]


def codes_per_byte(weight_format: WeightFormat) -> int:
    """How many whole codes a packed byte holds; 0 if codes cross byte boundaries."""
    return next((n for n in (8, 5, 4, 2, 1) if [weight_format.packed_bytes(n * k) for k in (1, 8)] == [1, 8]), 0)


@cache
def byte_table(weight_format: WeightFormat, per_byte: int) -> Tensor:
    """Table (valid byte values, codes per byte), int8: row v holds the codes in a byte of value v."""
    low, high = weight_format.code_range
    levels = 2 if weight_format.name == "binary" else high - low + 1
    values: Tensor = torch.arange(levels**per_byte).to(torch.uint8)
    return weight_format.unpack(values, len(values) * per_byte).reshape(-1, per_byte)


@cache
def plane_table(width: int, shift: int, signed: bool) -> Tensor:
    """Table (256, 8 / width), int8: row v holds what a bit-plane byte of value v contributes to two's complement codes.

    width: number of bits in the plane. shift: position of its lowest bit in the code. signed: whether it is the highest
    plane, whose top bit is the sign.
    """
    places = torch.arange(0, 8, width)
    values = (torch.arange(256).unsqueeze(1) >> places) & (2**width - 1)
    if signed:
        values = torch.where(values >= 2 ** (width - 1), values - 2**width, values)
    table: Tensor = (values << shift).to(torch.int8)
    return table


def rows_of_bytes(layer: PackedLayer) -> Tensor:
    """The packed codes of a table (V, D) as uint8 (V, bytes per row), repacked so that each row begins on a new byte.

    Only for formats that store whole codes in each byte.
    """
    weight_format, (rows, columns) = layer.spec.weight_format, layer.spec.shape
    packed = layer.packed_codes().detach().cpu()
    per_byte = codes_per_byte(weight_format)
    size = -(-columns // per_byte)
    if size * rows == packed.numel():
        return packed.reshape(rows, size)
    # Rows may be padded with any code; the lowest is a code of every format.
    filler = weight_format.code_range[0]
    codes = torch.nn.functional.pad(layer.codes().cpu(), (0, size * per_byte - columns), value=filler)
    return weight_format.pack(codes).reshape(rows, size)
