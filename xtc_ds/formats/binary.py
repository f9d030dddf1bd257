"""One bit: the sign of the weight times the mean magnitude of its group."""

from __future__ import annotations

import torch
from torch import Tensor

from xtc_ds.errors import FormatError
from xtc_ds.formats.affine import AffineFormat
from xtc_ds.formats.base import Encoded
from xtc_ds.formats.bits import check_padding, pack_bits, packed_size, unpack_bits

__all__ = ["FORMATS", "BinaryFormat"]


class BinaryFormat(AffineFormat):
    """``w_hat = alpha * sign(w)``, ``alpha = mean |w|`` of the group (XTC; Rastegari et al. 2016, eq. 6).

    ``sign(0)`` is +1, so that there are exactly two levels. In packed form, a set bit means +1.
    """

    name = "binary"
    bits = 1.0
    code_range = (-1, 1)
    zero_format = "ternary"

    def encode(self, w_GN: Tensor) -> Encoded:
        w_GN = w_GN.float().contiguous()  # the order of a sum depends on the layout
        alpha_G1 = w_GN.abs().sum(dim=1, keepdim=True).div(w_GN.shape[1])
        codes = (w_GN >= 0).view(torch.int8).mul_(2).sub_(1)
        return Encoded(codes, {"scale": alpha_G1}, self)

    def pack(self, codes: Tensor) -> Tensor:
        self.check_codes(codes)
        if not bool(codes.all()):
            raise FormatError("binary: a code is 0; allowed: -1 and 1")
        return pack_bits((codes.reshape(-1) > 0).to(torch.uint8), 1)

    def unpack(self, packed: Tensor, numel: int) -> Tensor:
        self.check_packed(packed, numel)
        return unpack_bits(packed, 1, numel).to(torch.int8).mul_(2).sub_(1)

    def check_stored(self, largest: int, last: int, numel: int) -> None:
        check_padding(last, 1, numel)

    def packed_bytes(self, numel: int) -> int:
        return packed_size(numel, 1)


FORMATS = (BinaryFormat(),)
