"""Stores packed codes in an ONNX file, with standard operators that unpack them.

A byte holds several whole codes, and its value is used as an index into a small table of them (``Gather``). If all
inputs of the operators are constants, an engine computes them once, when it loads the file (constant folding).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xtc_ds.engines.byte_tables import byte_table, codes_per_byte, plane_table, rows_of_bytes
from xtc_ds.engines.onnx_builder import INT32, OnnxBuilder
from xtc_ds.formats.bits import pack_bits
from xtc_ds.runtime.packed import PackedLayer

__all__ = ["codes_of_layer", "codes_of_rows"]

# Codes that would cross byte boundaries are stored as bit planes, lowest bits first. Bits per code: widths of planes.
_PLANES = {3: (2, 1), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1)}


def codes_of_layer(b: OnnxBuilder, name: str, layer: PackedLayer) -> str:
    """The int8 codes of the layer's weight in the spec's shape."""
    spec, weight_format = layer.spec, layer.spec.weight_format
    per_byte = codes_per_byte(weight_format)
    if per_byte == 1:
        return b.tensor(f"{name}.weight", layer.codes().cpu().numpy())
    if per_byte:
        table = byte_table(weight_format, per_byte)
        return _look_up(b, f"{name}.weight", layer.packed_codes().detach().cpu(), table, weight_format.name, spec.shape)
    codes, result, shift = layer.codes().cpu(), "", 0
    bits = int(weight_format.bits)
    for width in _PLANES[bits]:
        values = (codes.reshape(-1) >> shift) & (2**width - 1)
        packed = pack_bits(values.to(torch.uint8), width)
        table = plane_table(width, shift, signed=shift + width == bits)
        plane = _look_up(b, f"{name}.weight.{shift}", packed, table, f"plane_{shift}_of_{bits}", spec.shape)
        result, shift = b.node("BitwiseOr", result, plane) if result else plane, shift + width
    return result


def codes_of_rows(b: OnnxBuilder, name: str, layer: PackedLayer, ids: str) -> str:
    """The int8 codes (..., D) of the rows ``ids`` (...); only these rows are unpacked, at run time."""
    weight_format, (rows, columns) = layer.spec.weight_format, layer.spec.shape
    per_byte = codes_per_byte(weight_format)
    if per_byte < 2:
        return b.node("Gather", codes_of_layer(b, name, layer), ids, axis=0)
    table_VB = rows_of_bytes(layer)
    if table_VB.numel() == weight_format.packed_bytes(rows * columns):
        # The same bytes under the same name as in a linear layer that is tied to the table.
        table = b.reshape(b.tensor(f"{name}.weight", table_VB.reshape(-1).numpy()), (rows, -1))
    else:
        table = b.tensor(f"{name}.weight_rows", table_VB.numpy())
    found = b.cast(b.node("Gather", table, ids, axis=0), INT32)
    values = b.tensor(f"/codes_{weight_format.name}", byte_table(weight_format, per_byte).numpy())
    # (batch, tokens, bytes, codes per byte) to (batch, tokens, codes).
    lead = b.node("Slice", b.node("Shape", found), b.integers(0), b.integers(-1), b.integers(0))
    codes = b.node("Gather", values, found, axis=0)
    codes = b.node("Reshape", codes, b.node("Concat", lead, b.integers(-1), axis=0))
    if columns % per_byte:
        codes = b.node("Slice", codes, b.integers(0), b.integers(columns), b.integers(-1))
    return codes


def _look_up(b: OnnxBuilder, name: str, packed: Tensor, table: Tensor, table_name: str, shape: tuple[int, ...]) -> str:
    indices = b.cast(b.tensor(name, packed.numpy()), INT32)
    codes = b.node("Gather", b.tensor(f"/codes_{table_name}", table.numpy()), indices, axis=0)
    if packed.numel() * table.shape[1] != math.prod(shape):
        # The last byte contains padding codes.
        codes = b.node("Slice", b.reshape(codes, (-1,)), b.integers(0), b.integers(math.prod(shape)))
    return b.reshape(codes, shape)
