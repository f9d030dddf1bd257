"""Triton's words of packed weights: built on first use and shared by all layers that use the same packed bytes.

Shape legend: I = input features, O = output features.
"""

from __future__ import annotations

import math

from torch import Tensor

from xtc_ds.formats import WeightFormat
from xtc_ds.kernels.per_storage import PerStorage
from xtc_ds.kernels.triton.layout import TritonWeight, triton_weight

__all__ = ["words_of"]

_words: PerStorage[TritonWeight] = PerStorage()


def words_of(packed: Tensor, weight_format: WeightFormat, shape: tuple[int, int], whole_bytes: bool) -> TritonWeight:
    """The words of ``packed`` codes (O, I), uint8, on the device of ``packed``.

    whole_bytes: store 8 bits per weight, which need no unpacking in the product; else as few bits as the codes need.

    The words are kept as long as the storage of ``packed`` and rebuilt after an in-place change of it. Building them
    synchronizes with the device. Raises FormatError if the bytes do not decode to such codes.
    """

    def make() -> TritonWeight:
        codes = weight_format.unpack(packed.detach(), math.prod(shape)).reshape(shape)
        return triton_weight(codes, weight_format, 8 if whole_bytes else None)

    return _words.get(packed, (weight_format.name, shape, whole_bytes), make)
