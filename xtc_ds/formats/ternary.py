"""log2(3) = 1.58 bits: the sign of a group's large weights times their mean magnitude; the other weights are zero."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xtc_ds.errors import FormatError
from xtc_ds.formats.affine import AffineFormat
from xtc_ds.formats.base import Encoded
from xtc_ds.formats.bits import can_look

__all__ = ["FORMATS", "TernaryFormat"]

_TRITS_PER_BYTE = 5
_POWERS = (1, 3, 9, 27, 81)


class TernaryFormat(AffineFormat):
    """``w_hat = alpha * sign(w) * [|w| > t]`` (TWN: Li and Liu 2016; XTC's "2-bit").

    ``t = 0.7 mean |w|``, and ``alpha`` is the mean magnitude of the weights above ``t``, both per group. Packing
    stores five codes per byte as ``sum((code_i + 1) * 3**i)``, 1.6 bits per weight.
    """

    name = "ternary"
    bits = math.log2(3)
    code_range = (-1, 1)
    zero_format = "ternary"

    def encode(self, w_GN: Tensor) -> Encoded:
        w_GN = w_GN.float().contiguous()  # the order of a sum depends on the layout
        size_GN = w_GN.abs()
        mean_G1 = size_GN.sum(dim=1, keepdim=True).div(w_GN.shape[1])
        kept_GN = size_GN > 0.7 * mean_G1
        count_G1 = kept_GN.sum(dim=1, keepdim=True)
        total_G1 = size_GN.mul_(kept_GN).sum(dim=1, keepdim=True)
        # An all-zero group has no weight above t: alpha is 0 instead of 0/0. A NaN in the group makes alpha NaN.
        alpha_G1 = torch.where(count_G1 > 0, total_G1 / count_G1.clamp(min=1), mean_G1 * 0)
        return Encoded(w_GN.sign().to(torch.int8).mul_(kept_GN), {"scale": alpha_G1}, self)

    def pack(self, codes: Tensor) -> Tensor:
        self.check_codes(codes)
        flat = codes.reshape(-1).to(torch.int16) + 1
        flat = torch.nn.functional.pad(flat, (0, -flat.numel() % _TRITS_PER_BYTE)).reshape(-1, _TRITS_PER_BYTE)
        total = torch.zeros(flat.shape[0], dtype=torch.int16, device=codes.device)
        for digit, power in enumerate(_POWERS):
            total += flat[:, digit] * power
        return total.to(torch.uint8)

    def unpack(self, packed: Tensor, numel: int) -> Tensor:
        self.check_packed(packed, numel)
        if can_look(packed):
            self.check_stored(int(packed.max()), int(packed[-1]), numel)
        digits = torch.stack([packed // power % 3 for power in _POWERS], dim=-1).reshape(-1)
        return digits[:numel].to(torch.int8) - 1

    def check_stored(self, largest: int, last: int, numel: int) -> None:
        if largest >= 3**_TRITS_PER_BYTE:
            raise FormatError(f"ternary: byte {largest} holds no five codes; allowed: 0 to 242")
        if last >= 3 ** ((numel - 1) % _TRITS_PER_BYTE + 1):
            raise FormatError(f"ternary: padding after {numel} codes is not zero")

    def packed_bytes(self, numel: int) -> int:
        return -(-numel // _TRITS_PER_BYTE)


FORMATS = (TernaryFormat(),)
