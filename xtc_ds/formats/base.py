"""What a weight format is: pure functions over tensors, used to train, to compute and to store.

Shape legend: G = groups of weights with parts of their own, N = weights in a group.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xtc_ds.errors import FormatError
from xtc_ds.formats.grouping import Grouping
from xtc_ds.formats.straight_through import straight_through

__all__ = ["Encoded", "Part", "WeightFormat"]


@dataclass(frozen=True)
class Part:
    """Floats that lie beside the codes, such as scales or a table of centroids: float32 in memory, in a file rounded
    to the type of its floats.

    name: what the format calls it; the tensor of a layer or a file is ``weight_<name>``.
    size: values that each group has; None: a single one, without a dimension of its own.
    learned: whether training changes the values themselves; they are parameters then, and not computed from the
        weights at every step.
    """

    name: str
    size: int | None = None
    learned: bool = False

    def shape(self, groups: int) -> tuple[int, ...]:
        """(G,), or (G, size)."""
        return (groups,) if self.size is None else (groups, self.size)

    def per_group(self, values: Tensor) -> Tensor:
        """Values of :meth:`shape` as ``decode`` takes them, (G, 1) or (G, size)."""
        return values.unsqueeze(1) if self.size is None else values


@dataclass(frozen=True)
class Encoded:
    """A tensor as integers, and what says what they stand for.

    codes: integers, (G, N), int8 up to 8 bits (wider only for training formats above 8 bits).
    parts: float32 tensors by the names of ``format.parts``, (G, 1) or (G, size).
    """

    codes: Tensor
    parts: Mapping[str, Tensor]
    format: WeightFormat

    def decode(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The values that the codes stand for, (G, N), computed in float32 and cast to ``dtype``."""
        return self.format.decode(self.codes, self.parts).to(dtype)

    @property
    def scale(self) -> Tensor:
        """The scale of an affine format, (G, 1)."""
        return self.parts["scale"]


class WeightFormat(ABC):
    """A way to write weights as integer codes and, for each group of weights, a few floats.

    Subclasses are stateless: the same instance encodes every tensor. ``pack`` and ``unpack`` are
    exact inverses for any number of codes.
    """

    #: the name stored in files, unique in the registry
    name: str
    #: nominal bits of one weight: log2 of the number of levels
    bits: float
    #: smallest and largest code; 0 is a code of every format whose zeros need a mask
    code_range: tuple[int, int]
    #: what lies beside the codes
    parts: tuple[Part, ...]
    #: whether weights are rounded to a uniform grid, to the nearest point or at random
    has_grid: ClassVar[bool] = False
    #: whether ``w_hat = (code + offset) * scale + zero``: what is needed to compute with codes instead of values.
    #: A format says so itself (``AffineFormat``); everything that is not affine is decoded.
    affine: ClassVar[bool] = False
    #: the format whose codes hold the values of this one and zero (its own name, if it has a code for zero); None
    #: where pruned weights need a mask beside their codes
    zero_format: str | None = None

    @property
    def scaled_codes(self) -> bool:
        """Whether ``w_hat = code * scale`` and nothing else, so that codes can be multiplied with codes."""
        return False

    @property
    def learned(self) -> bool:
        """Whether training learns some of the parts."""
        return any(part.learned for part in self.parts)

    @abstractmethod
    def encode(self, w_GN: Tensor) -> Encoded:
        """Codes and parts of each row of ``w_GN``, a float tensor (G, N)."""

    def encode_with(self, w_GN: Tensor, learned: Mapping[str, Tensor]) -> Encoded:
        """Codes of ``w_GN`` where the learned parts are given, by name, as ``decode`` takes them."""
        return self.encode(w_GN)

    def encode_stochastic(self, w_GN: Tensor, noise_GN: Tensor) -> Encoded:
        """Like ``encode``, but rounded up with the probability of the fraction: up where ``noise_GN`` is below it.

        noise_GN: uniform in [0, 1), (G, N). Formats without a grid (``has_grid`` is False) have nothing to round.
        """
        return self.encode(w_GN)

    @abstractmethod
    def decode(self, codes_GN: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
        """The float32 values (G, N) that codes stand for, with the parts of ``Encoded``."""

    def fake_quantize(
        self,
        w: Tensor,
        grouping: Grouping,
        noise: Tensor | None = None,
        float_share: float = 0.0,
        learned: Mapping[str, Tensor] | None = None,
        codes: Tensor | None = None,
    ) -> Tensor:
        """``w`` as its codes stand for it, with the gradient that training uses: here straight through to ``w``.

        See ``fake_quantize_weight``. A format with learned parts brings its own rule for their gradient.
        """
        return straight_through(w, self, grouping, noise, float_share)

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

    def parts_values(self, groups: int) -> int:
        """How many floats lie beside the codes of so many groups."""
        return sum(math.prod(part.shape(groups)) for part in self.parts)

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

    def __eq__(self, other: object) -> bool:
        # A copy of a layer has a copy of its format.
        return type(other) is type(self) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"
