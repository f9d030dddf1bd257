"""The native kernel: C compiled on first use, called through ctypes."""

from __future__ import annotations

from xtc_ds.kernels.native.decode import decode_rows
from xtc_ds.kernels.native.encoder_layer import EncoderLayer, run_layers
from xtc_ds.kernels.native.gradient import scaled_gradients
from xtc_ds.kernels.native.layer import TiledLayer
from xtc_ds.kernels.native.library import Library, native_library
from xtc_ds.kernels.native.linear import InputCodes, TiledWeight, quantize_input, tile_rows, tile_weight, tiled_product
from xtc_ds.kernels.native.lookup import lookup
from xtc_ds.kernels.native.planes import CodePlanes

__all__ = [
    "EncoderLayer",
    "CodePlanes",
    "InputCodes",
    "Library",
    "TiledLayer",
    "TiledWeight",
    "decode_rows",
    "lookup",
    "native_library",
    "quantize_input",
    "run_layers",
    "scaled_gradients",
    "tile_rows",
    "tile_weight",
    "tiled_product",
]
