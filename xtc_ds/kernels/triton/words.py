"""Kernel words of packed weights, made from the packed bits on first use and shared by all who use those bits.

Shape legend: I = input features, O = output features.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from xtc_ds.formats import WeightFormat
from xtc_ds.kernels.tiles import version_of
from xtc_ds.kernels.triton.layout import TritonWeight, triton_weight

__all__ = ["words_of"]


@dataclass(frozen=True)
class _Entry:
    storage: StorageWeakRef
    version: int
    weight: TritonWeight


_lock = threading.Lock()
_made: dict[tuple[object, ...], _Entry] = {}


def words_of(packed: Tensor, weight_format: WeightFormat, shape: tuple[int, int], whole_bytes: bool) -> TritonWeight:
    """The words of ``packed`` codes (O, I), uint8, on their device.

    whole_bytes: 8 bits a weight, which need no unpacking in the product; else as few bits as the codes need.

    The words live as long as the storage of ``packed``; a change that counts a version makes them anew. Making them
    waits for the device. Raises FormatError if the bytes are not such codes.
    """
    # By storage and not by tensor: graphs hand over aliases.
    storage = StorageWeakRef(packed.untyped_storage())  # type: ignore[no-untyped-call]
    key = (storage.cdata, packed.storage_offset(), weight_format.name, shape, whole_bytes)
    with _lock:
        found = _made.get(key)
        if found is None or found.version != version_of(packed):
            for gone in [key for key, entry in _made.items() if entry.storage.expired()]:  # type: ignore[no-untyped-call]
                del _made[gone]
            codes = weight_format.unpack(packed.detach(), math.prod(shape)).reshape(shape)
            weight = triton_weight(codes, weight_format, 8 if whole_bytes else None)
            found = _made[key] = _Entry(storage, version_of(packed), weight)
    return found.weight
