"""Kernel tiles of packed weights, made from the packed bits on first use and shared by all who use those bits.

Shape legend: I = input features, O = output features.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from xtc_ds.formats import WeightFormat
from xtc_ds.kernels.native import TiledWeight, tile_rows

__all__ = ["codes_per_unit", "tiles_of", "version_of"]

# Codes that are unpacked at a time: a few MB of int8, however large the layer.
_CODES_AT_ONCE = 1 << 22
_PANEL_ROWS = 16


@dataclass(frozen=True)
class _Entry:
    storage: StorageWeakRef
    version: int
    weight: TiledWeight


_lock = threading.Lock()
_made: dict[tuple[object, ...], _Entry] = {}


def tiles_of(packed: Tensor, weight_format: WeightFormat, shape: tuple[int, int], whole_bytes: bool) -> TiledWeight:
    """The tiles of ``packed`` codes (O, I), uint8, on the CPU.

    whole_bytes: tiles of 8 bits, which need no unpacking in the product; else of as few bits as the codes need.

    The tiles live as long as the storage of ``packed``; a change that counts a version makes them anew. Raises
    FormatError if the bytes are not such codes.
    """
    # By storage and not by tensor: graphs hand over aliases.
    storage = StorageWeakRef(packed.untyped_storage())  # type: ignore[no-untyped-call]
    key = (storage.cdata, packed.storage_offset(), weight_format.name, shape, whole_bytes)
    with _lock:
        found = _made.get(key)
        if found is None or found.version != version_of(packed):
            for gone in [key for key, entry in _made.items() if entry.storage.expired()]:  # type: ignore[no-untyped-call]
                del _made[gone]
            found = _made[key] = _Entry(storage, version_of(packed), _make(packed, weight_format, shape, whole_bytes))
    return found.weight


def version_of(tensor: Tensor) -> int:
    """How often the tensor was changed in place; inference tensors do not count."""
    return 0 if tensor.is_inference() else tensor._version


def codes_per_unit(weight_format: WeightFormat) -> int:
    """The fewest codes that end on a whole byte wherever they are packed."""
    return next(n for n in range(1, 9) if weight_format.packed_bytes(8 * n) == 8 * weight_format.packed_bytes(n))


def _make(packed: Tensor, weight_format: WeightFormat, shape: tuple[int, int], whole_bytes: bool) -> TiledWeight:
    outputs, inputs = shape
    weight_format.check_packed(packed, outputs * inputs)
    weight = TiledWeight.empty(outputs, inputs, 8 if whole_bytes else TiledWeight.bits_of(weight_format))
    # Whole panels that end on whole bytes.
    step = math.lcm(_PANEL_ROWS, codes_per_unit(weight_format))
    step *= max(1, _CODES_AT_ONCE // (step * inputs))
    for first in range(0, outputs, step):
        rows = min(step, outputs - first)
        start = weight_format.packed_bytes(first * inputs)
        end = weight_format.packed_bytes((first + rows) * inputs)
        codes = weight_format.unpack(packed[start:end], rows * inputs).reshape(rows, inputs)
        tile_rows(codes, weight, first)
    return weight
