"""What a weight format is: pure functions over tensors, used to train, to compute and to store.

Shape legend: G = scale groups, N = weights in a group, O = output features, I = input features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xtc_ds.errors import FormatError

__all__ = ["Encoded", "WeightFormat"]


@dataclass(frozen=True)
class Encoded:
    """A tensor as integers: ``w_hat = (codes + offset) * scale + zero``.

    codes: integers, (G, N), int8 up to 8 bits (wider only for training formats above 8 bits).
    scale: float32, (G, 1).
    zero: float32, (G, 1), the value of code ``-offset``; None where that is 0.
    offset: shifts unsigned grids so that their codes fit int8.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor | None = None
    offset: int = 0

    def decode(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The values that the codes stand for, (G, N), computed in float32 and cast to ``dtype``."""
        codes = self.codes.to(torch.float32)
        values = (codes + self.offset if self.offset else codes) * self.scale
        if self.zero is not None:
            values = values + self.zero
        return values.to(dtype)


class WeightFormat(ABC):
    """A way to write weights as integer codes and scales.

    Subclasses are stateless: the same instance encodes every tensor. ``pack`` and ``unpack`` are
    exact inverses for any number of codes.
    """

    #: the name stored in files, unique in the registry
    name: str
    #: nominal bits of one weight: log2 of the number of levels
    bits: float
    #: smallest and largest code
    code_range: tuple[int, int]
    #: whether groups carry a zero value beside the scale
    has_zero: ClassVar[bool] = False
    #: whether weights are rounded to a uniform grid, to the nearest point or at random
    has_grid: ClassVar[bool] = False
    #: whether ``w_hat = (code + offset) * scale + zero``: what is needed to compute with codes instead of values.
    #: A format says so itself; everything that is not affine is decoded.
    affine: ClassVar[bool] = False
    #: what is added to a code before it is scaled
    code_offset: int = 0

    @abstractmethod
    def encode(self, w_GN: Tensor) -> Encoded:
        """Codes and scales of each row of ``w_GN``, a float tensor (G, N)."""

    def encode_stochastic(self, w_GN: Tensor, noise_GN: Tensor) -> Encoded:
        """Like ``encode``, but rounded up with the probability of the fraction: up where ``noise_GN`` is below it.

        noise_GN: uniform in [0, 1), (G, N). Formats without a grid (``has_grid`` is False) have nothing to round.
        """
        return self.encode(w_GN)

    @abstractmethod
    def pack(self, codes: Tensor) -> Tensor:
        """Codes of any shape, row-major, as a flat uint8 tensor of ``packed_bytes(numel)`` bytes."""

    @abstractmethod
    def unpack(self, packed: Tensor, numel: int) -> Tensor:
        """The ``numel`` int8 codes in ``packed``, flat.

        Raises FormatError if the bytes are not such codes; values are looked at on the CPU alone.
        """

    @abstractmethod
    def packed_bytes(self, numel: int) -> int:
        """Bytes that ``numel`` packed codes take."""

    @abstractmethod
    def check_stored(self, largest: int, last: int, numel: int) -> None:
        """Raise FormatError where bytes are no ``numel`` codes; ``largest`` is their largest, ``last`` the last one.

        What ``unpack`` raises, without unpacking.
        """

    def check_codes(self, codes: Tensor) -> None:
        """Raise FormatError where a code lies outside the format's range."""
        low, high = self.code_range
        if codes.numel() and not low <= int(codes.min()) <= int(codes.max()) <= high:
            raise FormatError(
                f"{self.name}: codes from {int(codes.min())} to {int(codes.max())}; allowed: {low} to {high}"
            )

    def check_packed(self, packed: Tensor, numel: int) -> None:
        """Raise FormatError where ``packed`` is not a flat uint8 tensor of the right length."""
        expected = self.packed_bytes(numel)
        if packed.dtype != torch.uint8 or packed.dim() != 1 or packed.numel() != expected:
            raise FormatError(
                f"{self.name}: {numel} codes take {expected} bytes (flat, uint8); "
                f"found {tuple(packed.shape)} of {packed.dtype}"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"
