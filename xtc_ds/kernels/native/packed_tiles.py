"""Native tiles of packed weights: built on first use and shared by all layers that use the same packed bytes.

Shape legend: I = input features, O = output features.
"""

from __future__ import annotations

import math

from torch import Tensor

from xtc_ds.formats import WeightFormat
from xtc_ds.kernels.native import TiledWeight, tile_rows
from xtc_ds.kernels.per_storage import PerStorage

__all__ = ["codes_per_unit", "tiles_of"]

# Number of codes unpacked at a time: a few MB of int8, however large the layer is.
_CODES_AT_ONCE = 1 << 22
_PANEL_ROWS = 16


_tiles: PerStorage[TiledWeight] = PerStorage()


def tiles_of(packed: Tensor, weight_format: WeightFormat, shape: tuple[int, int], whole_bytes: bool) -> TiledWeight:
    """The tiles of ``packed`` codes (O, I), uint8, on the CPU.

    whole_bytes: 8 bits per code, which need no unpacking in the product; otherwise as few bits as the codes need.

    The tiles are kept as long as the storage of ``packed`` and rebuilt after an in-place change of it. Raises
    FormatError if the bytes do not decode to such codes.
    """
    kind = (weight_format.name, shape, whole_bytes)
    return _tiles.get(packed, kind, lambda: _make(packed, weight_format, shape, whole_bytes))


def codes_per_unit(weight_format: WeightFormat) -> int:
    """The smallest number of codes that fills whole bytes."""
    return next(n for n in range(1, 9) if weight_format.packed_bytes(8 * n) == 8 * weight_format.packed_bytes(n))


def _make(packed: Tensor, weight_format: WeightFormat, shape: tuple[int, int], whole_bytes: bool) -> TiledWeight:
    outputs, inputs = shape
    weight_format.check_packed(packed, outputs * inputs)
    weight = TiledWeight.empty(outputs, inputs, 8 if whole_bytes else TiledWeight.bits_of(weight_format))
    # Whole panels of rows whose packed codes fill whole bytes.
    step = math.lcm(_PANEL_ROWS, codes_per_unit(weight_format))
    step *= max(1, _CODES_AT_ONCE // (step * inputs))
    for first in range(0, outputs, step):
        rows = min(step, outputs - first)
        start = weight_format.packed_bytes(first * inputs)
        end = weight_format.packed_bytes((first + rows) * inputs)
        codes = weight_format.unpack(packed[start:end], rows * inputs).reshape(rows, inputs)
        tile_rows(codes, weight, first)
    return weight
