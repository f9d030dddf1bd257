"""Uniform integer grids of 2 to 8 bits (up to 16 in training, while the number of bits is still being reduced)."""

from __future__ import annotations

import torch
from torch import Tensor

from xtc_ds.errors import FormatError
from xtc_ds.formats.affine import AffineFormat
from xtc_ds.formats.base import Encoded
from xtc_ds.formats.bit_codes import BitCodes

__all__ = ["FORMATS", "AsymmetricFormat", "IntegerFormat"]


class IntegerFormat(AffineFormat, BitCodes):
    """``w_hat = s * clamp(round(w / s), -2**(b-1), 2**(b-1) - 1)`` with ``s = 2 max|w| / 2**b`` per group.

    The scale divides by ``2**b``, like DeepSpeed's symmetric quantizer, so the largest positive weight is clipped by
    one step. Rounding is to nearest, ties to even; ``encode_stochastic`` rounds at random, so that the expected value
    of a weight inside the range is the weight itself.
    """

    has_grid = True

    def __init__(self, bits: int) -> None:
        if not 2 <= bits <= 16:
            raise FormatError(f"integer formats have 2 to 16 bits; found {bits}")
        self.set_bits(bits, f"int{bits}")
        self.zero_format = self.name

    @property
    def code_dtype(self) -> torch.dtype:
        """int8 for up to 8 bits; int32 for training formats with more."""
        return torch.int8 if self.int_bits <= 8 else torch.int32

    def encode(self, w_GN: Tensor) -> Encoded:
        return self.encode_range(w_GN, *self._range(w_GN.float()))

    def encode_stochastic(self, w_GN: Tensor, noise_GN: Tensor) -> Encoded:
        return self.encode_range(w_GN, *self._range(w_GN.float()), noise_GN)

    def _range(self, w_GN: Tensor) -> tuple[Tensor, Tensor]:
        largest_G1 = w_GN.abs().amax(dim=1, keepdim=True)
        return -largest_G1, largest_G1

    def encode_range(self, w_GN: Tensor, low_G1: Tensor, high_G1: Tensor, noise_GN: Tensor | None = None) -> Encoded:
        """Encode on the grid of a given range (for static activations); values outside are clipped."""
        scale_G1 = 2 * torch.maximum(low_G1.abs(), high_G1.abs()) / 2**self.int_bits
        # An all-zero group has scale 0: dividing by 1 instead makes all codes 0. A NaN scale stays NaN.
        step_G1 = torch.where(scale_G1 == 0, 1.0, scale_G1)
        codes = _round(w_GN.float() / step_G1, noise_GN).clamp_(*self.code_range)
        return Encoded(codes.to(self.code_dtype), {"scale": scale_G1}, self)


class AsymmetricFormat(IntegerFormat):
    """``w_hat = s * q + z``, ``q`` in 0..2**b - 1, ``s = (max - min) / 2**b``, ``z = s * round(min / s)`` per group.

    Divides by ``2**b``, like DeepSpeed's asymmetric quantizer, so the maximum is not reached. Stored codes are
    ``q - 2**(b-1)``, which fit int8. A constant group has scale 0 and its value as zero, so it is represented exactly.
    """

    has_zero = True

    def __init__(self, bits: int) -> None:
        super().__init__(bits)
        self.name = f"int{bits}_asymmetric"
        self.zero_format = None  # no fixed code represents the value 0
        self.code_offset = 2 ** (bits - 1)

    def _range(self, w_GN: Tensor) -> tuple[Tensor, Tensor]:
        return w_GN.amin(dim=1, keepdim=True), w_GN.amax(dim=1, keepdim=True)

    def encode_range(self, w_GN: Tensor, low_G1: Tensor, high_G1: Tensor, noise_GN: Tensor | None = None) -> Encoded:
        scale_G1 = (high_G1 - low_G1) / 2**self.int_bits
        step_G1 = torch.where(scale_G1 == 0, 1.0, scale_G1)
        # A constant group has scale 0; its zero is the value itself, not rounded to a multiple of the scale.
        zero_G1 = torch.where(scale_G1 == 0, low_G1, (low_G1 / step_G1).round() * scale_G1)
        half = self.code_offset
        codes = _round((w_GN.float() - zero_G1) / step_G1, noise_GN).clamp_(0, 2 * half - 1).sub_(half)
        return Encoded(codes.to(self.code_dtype), {"scale": scale_G1, "zero": zero_G1}, self)


def _round(x_GN: Tensor, noise_GN: Tensor | None) -> Tensor:
    """Round to nearest or, with noise, up where the noise is below the fraction and else down. Overwrites ``x_GN``."""
    if noise_GN is None:
        return x_GN.round_()
    low_GN = x_GN.floor()
    # The noise is compared with the fraction and not added to the weight, because a float sum would itself be rounded.
    return low_GN.add_(noise_GN < x_GN.sub_(low_GN))


FORMATS = tuple(kind(bits) for bits in range(2, 17) for kind in (IntegerFormat, AsymmetricFormat))
