"""Packing of codes from ``-2**(b-1)`` to ``2**(b-1) - 1`` with b = 1 to 8 bits, as a dense bit stream."""

from __future__ import annotations

import torch
from torch import Tensor

from xtc_ds.errors import FormatError
from xtc_ds.formats.base import WeightFormat
from xtc_ds.formats.bits import check_padding, pack_bits, packed_size, unpack_bits

__all__ = ["BitCodes"]

_LARGEST_STORED_BITS = 8


class BitCodes(WeightFormat):
    """Base of formats with ``2**int_bits`` codes. A code is stored as the difference to the lowest code."""

    int_bits: int

    def set_bits(self, bits: int, name: str) -> None:
        """Set the number of bits, the name and the range of codes."""
        self.int_bits, self.bits, self.name = bits, float(bits), name
        self.code_range = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    def pack(self, codes: Tensor) -> Tensor:
        self._check_storable()
        self.check_codes(codes)
        values = (codes.reshape(-1).to(torch.int16) - self.code_range[0]).to(torch.uint8)
        return pack_bits(values, self.int_bits)

    def unpack(self, packed: Tensor, numel: int) -> Tensor:
        self._check_storable()
        self.check_packed(packed, numel)
        values = unpack_bits(packed, self.int_bits, numel)
        return (values.to(torch.int16) + self.code_range[0]).to(torch.int8)

    def check_stored(self, largest: int, last: int, numel: int) -> None:
        check_padding(last, self.int_bits, numel)

    def packed_bytes(self, numel: int) -> int:
        return packed_size(numel, self.int_bits)

    def _check_storable(self) -> None:
        if self.int_bits > _LARGEST_STORED_BITS:
            raise FormatError(f"{self.name} is a training format; files hold at most 8 bits a weight")
