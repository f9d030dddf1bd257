"""A weight format of another package: signed powers of two, so that a product needs no multiplication, only shifts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from xtc_ds.format_choices import FormatChoice, register_format_choice
from xtc_ds.formats.base import Encoded, Part
from xtc_ds.formats.bit_codes import BitCodes


class PowerOfTwo(BitCodes):
    """``w_hat = sign * 2**-k * scale`` with ``k`` from 0 to 3 and ``scale = max |w|`` of the group; 3 bits a weight.

    Codes are ``k`` for positive and ``k - 4`` for negative weights. Not affine: codes must not be multiplied.
    """

    zero_format = None  # no code stands for zero
    parts = (Part("scale"),)

    def __init__(self) -> None:
        self.set_bits(3, "power3")

    def encode(self, w_GN: Tensor) -> Encoded:
        w_GN = w_GN.float()
        scale_G1 = w_GN.abs().amax(dim=1, keepdim=True)
        share_GN = w_GN.abs() / torch.where(scale_G1 == 0, 1.0, scale_G1)
        k_GN = (-share_GN.clamp(min=2.0**-4).log2()).round().clamp(0, 3)
        return Encoded((k_GN - 4 * (w_GN < 0)).to(torch.int8), {"scale": scale_G1}, self)

    def decode(self, codes_GN: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
        sign_GN = torch.where(codes_GN < 0, -1.0, 1.0)
        return sign_GN * 2.0 ** -(codes_GN.float() % 4) * parts["scale"]


FORMATS = (PowerOfTwo(),)


def register() -> None:
    """What a package names as its entry point in the group ``xtc_ds.formats``."""
    register_format_choice(FormatChoice("power", (3,), "tests.extension.toy_format", symmetric_only=True))
