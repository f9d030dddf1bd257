"""The native kernel: C compiled on first use, called through ctypes."""

from __future__ import annotations

from xtc_ds.kernels.native.decode import decode_rows
from xtc_ds.kernels.native.layer import TiledLayer
from xtc_ds.kernels.native.library import Library, native_library
from xtc_ds.kernels.native.linear import InputCodes, TiledWeight, quantize_input, tile_rows, tile_weight, tiled_product

__all__ = [
    "InputCodes",
    "Library",
    "TiledLayer",
    "TiledWeight",
    "decode_rows",
    "native_library",
    "quantize_input",
    "tile_rows",
    "tile_weight",
    "tiled_product",
]
