"""The compiled library, loaded once per process, with typed functions."""

from __future__ import annotations

import ctypes
import logging
import os
from functools import cache

# Imported before the library is loaded: both share one OpenMP runtime, which torch must load first.
import torch  # noqa: F401

from xtc_ds.kernels.native.build import CompilerError, build_library

__all__ = ["Library", "native_library"]

logger = logging.getLogger(__name__)

_ABI = 3
_PATHS = ("portable C", "AVX2", "AVX-512 VNNI")
_POINTER, _SIZE, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float


class Library:
    """Functions of ``xtc_kernels.c``; ``path`` is the best instruction set that this processor supports."""

    def __init__(self, file: str) -> None:
        library = ctypes.CDLL(file)
        if library.xtc_abi() != _ABI:
            raise CompilerError(f"{file} is of another version; delete it")
        self.path: int = library.xtc_best_path()
        #: whether attention, GELU and add + layer norm are supported on this processor
        self.has_encoder: bool = self.path == _PATHS.index("AVX-512 VNNI")
        self.tiles_bytes = library.xtc_tiles_bytes
        self.tiles_bytes.restype, self.tiles_bytes.argtypes = _SIZE, [_SIZE, _SIZE, _INT]
        self.tile = library.xtc_tile
        self.tile.restype = None
        self.tile.argtypes = [_POINTER, *[_SIZE] * 2, *[_INT] * 2, *[_POINTER] * 2, _INT]
        self.quantize = library.xtc_quantize
        self.quantize.restype = _INT
        self.quantize.argtypes = [_POINTER, _INT, *[_SIZE] * 2, _INT, _FLOAT, *[_POINTER] * 3, *[_INT] * 2]
        self.decode = library.xtc_decode
        self.decode.restype = None
        self.decode.argtypes = [*[_POINTER] * 3, _INT, *[_SIZE] * 2, *[_INT] * 2]
        self.scale_gradient = library.xtc_scale_gradient
        self.scale_gradient.restype = None
        self.scale_gradient.argtypes = [*[_POINTER] * 5, *[_SIZE] * 2, *[_INT] * 2]
        self.pack_planes = library.xtc_pack_planes
        self.pack_planes.restype = None
        self.pack_planes.argtypes = [*[_POINTER] * 2, *[_SIZE] * 2, *[_INT] * 3]
        self.unpack_planes = library.xtc_unpack_planes
        self.unpack_planes.restype = None
        self.unpack_planes.argtypes = [*[_POINTER] * 3, _INT, *[_SIZE] * 2, *[_INT] * 3]
        self.product = library.xtc_product
        self.product.restype = _INT
        self.product.argtypes = [*[_POINTER] * 8, _INT, *[_SIZE] * 3, *[_INT] * 5]
        self.linear_scratch_bytes = library.xtc_linear_scratch_bytes
        self.linear_scratch_bytes.restype, self.linear_scratch_bytes.argtypes = _SIZE, [_SIZE, _SIZE]
        self.linear = library.xtc_linear
        self.linear.restype = _INT
        self.linear.argtypes = [
            _POINTER, _INT, _FLOAT, *[_POINTER] * 5, _INT, *[_SIZE] * 3, *[_INT] * 3, _POINTER, *[_INT] * 2
        ]  # fmt: skip
        self.attention_scratch_bytes = library.xtc_attention_scratch_bytes
        self.attention_scratch_bytes.restype, self.attention_scratch_bytes.argtypes = _SIZE, [_SIZE, _SIZE, _INT]
        self.attention = library.xtc_attention
        self.attention.restype = _INT
        self.attention.argtypes = [*[_POINTER] * 6, _FLOAT, *[_POINTER] * 2, _INT]
        self.encoder_scratch_bytes = library.xtc_encoder_scratch_bytes
        self.encoder_scratch_bytes.restype, self.encoder_scratch_bytes.argtypes = _SIZE, [_POINTER, *[_SIZE] * 3, _INT]
        self.encoder_layers = library.xtc_encoder_layers
        self.encoder_layers.restype = _INT
        self.encoder_layers.argtypes = [_POINTER, _SIZE, *[_POINTER] * 3, *[_SIZE] * 2, *[_POINTER] * 2, _INT]
        self.lookup = library.xtc_lookup
        self.lookup.restype = _INT
        self.lookup.argtypes = [
            _POINTER, *[_SIZE] * 2, *[_INT] * 3, *[_POINTER] * 2, _SIZE, _POINTER, _SIZE, _POINTER, *[_INT] * 2
        ]  # fmt: skip
        self.peak = library.xtc_peak
        self.peak.restype, self.peak.argtypes = _SIZE, [_INT, _SIZE, _INT]
        self.gelu = library.xtc_gelu
        self.gelu.restype, self.gelu.argtypes = _INT, [_POINTER, *[_SIZE] * 2, _INT]
        self.add_norm = library.xtc_add_norm
        self.add_norm.restype, self.add_norm.argtypes = _INT, [*[_POINTER] * 4, _FLOAT, *[_SIZE] * 2, _INT]

    @property
    def path_name(self) -> str:
        """Display name of the instruction set in use."""
        return _PATHS[self.path]


@cache
def native_library() -> Library | None:
    """The library, compiled if necessary; None, with one warning, if it cannot be compiled.

    ``XTC_DS_NATIVE=0`` disables it without a warning.
    """
    if os.environ.get("XTC_DS_NATIVE") == "0":
        return None
    try:
        return Library(str(build_library()))
    except (CompilerError, OSError, AttributeError) as error:  # AttributeError: the file is some other library
        logger.warning("no native kernel (%s); packed layers run on torch's integer product instead", error)
        return None
