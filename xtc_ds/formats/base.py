"""The interface of weight formats: pure functions on tensors, used in training, inference and storage.

Shape legend: G = groups of weights, each with its own parts (such as a scale), N = weights in a group.
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
    """Floats that a format stores besides the codes, such as scales or a codebook.

    They are float32 in memory; a file rounds them to its float dtype.

    name: the format's name for the part; the tensor of a layer or a file is called ``weight_<name>``.
    size: number of values per group; None for a single value, without its own dimension.
    learned: whether the values are trained as parameters, instead of computed from the weights in every step.
    """

    name: str
    size: int | None = None
    learned: bool = False

    def shape(self, groups: int) -> tuple[int, ...]:
        """The tensor's shape: (G,), or (G, size)."""
        return (groups,) if self.size is None else (groups, self.size)

    def per_group(self, values: Tensor) -> Tensor:
        """Reshape values of :meth:`shape` to what ``decode`` expects: (G, 1) or (G, size)."""
        return values.unsqueeze(1) if self.size is None else values


@dataclass(frozen=True)
class Encoded:
    """A tensor as integer codes, with everything that is needed to decode them.

    codes: integers, (G, N), int8 up to 8 bits (wider only for training formats above 8 bits).
    parts: the parts by the names of ``format.parts``, float32 (G, 1) or (G, size).
    """

    codes: Tensor
    parts: Mapping[str, Tensor]
    format: WeightFormat

    def decode(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The decoded values (G, N), computed in float32 and cast to ``dtype``."""
        return self.format.decode(self.codes, self.parts).to(dtype)

    @property
    def scale(self) -> Tensor:
        """The scale of an affine format, (G, 1)."""
        return self.parts["scale"]


class WeightFormat(ABC):
    """A representation of weights as integer codes and a few floats for each group of weights.

    Instances are stateless: one instance encodes all tensors. ``pack`` and ``unpack`` are exact inverses for any
    number of codes.
    """

    #: the name stored in files, unique in the registry
    name: str
    #: nominal bits of one weight: log2 of the number of levels
    bits: float
    #: smallest and largest code; a format whose pruned weights need a mask must have 0 as a valid code
    code_range: tuple[int, int]
    #: the floats stored besides the codes
    parts: tuple[Part, ...]
    #: whether weights are rounded to a uniform grid, so that stochastic rounding is possible
    has_grid: ClassVar[bool] = False
    #: whether ``w_hat = (code + offset) * scale + zero``, which is needed to compute with codes instead of values.
    #: Formats must declare it (as ``AffineFormat`` does); weights of other formats are decoded.
    affine: ClassVar[bool] = False
    #: name of the format whose codes represent the values of this format and zero (its own name if it has a code for
    #: zero); None if pruned weights need a mask besides their codes
    zero_format: str | None = None

    @property
    def scaled_codes(self) -> bool:
        """Whether ``w_hat = code * scale``, without offset or zero, so that codes can be multiplied with codes."""
        return False

    @property
    def learned(self) -> bool:
        """Whether some of the parts are learned in training."""
        return any(part.learned for part in self.parts)

    @abstractmethod
    def encode(self, w_GN: Tensor) -> Encoded:
        """Encode each row of ``w_GN``, a float tensor (G, N), as a group."""

    def encode_with(self, w_GN: Tensor, learned: Mapping[str, Tensor]) -> Encoded:
        """Encode ``w_GN`` with given learned parts, by name, in the shapes that ``decode`` expects."""
        return self.encode(w_GN)

    def encode_stochastic(self, w_GN: Tensor, noise_GN: Tensor) -> Encoded:
        """Like ``encode``, with stochastic rounding: up with a probability equal to the fraction, else down.

        noise_GN: uniform in [0, 1), (G, N); a value is rounded up if its noise is below its fraction. Formats without
        a grid (``has_grid`` is False) ignore it.
        """
        return self.encode(w_GN)

    @abstractmethod
    def decode(self, codes_GN: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
        """Decode codes to float32 values (G, N). parts: as in ``Encoded``."""

    def fake_quantize(
        self,
        w: Tensor,
        grouping: Grouping,
        noise: Tensor | None = None,
        float_share: float = 0.0,
        learned: Mapping[str, Tensor] | None = None,
        codes: Tensor | None = None,
    ) -> Tensor:
        """``w`` encoded and decoded, with the gradient used in training; by default the straight-through estimator.

        For the arguments see ``fake_quantize_weight``. A format with learned parts overrides this with their gradient.
        """
        return straight_through(w, self, grouping, noise, float_share)

    @abstractmethod
    def pack(self, codes: Tensor) -> Tensor:
        """Pack codes of any shape, row-major, to a flat uint8 tensor of ``packed_bytes(numel)`` bytes."""

    @abstractmethod
    def unpack(self, packed: Tensor, numel: int) -> Tensor:
        """The ``numel`` int8 codes in ``packed``, flat.

        Raises FormatError if the bytes are no valid packing; their values are checked only on the CPU.
        """

    @abstractmethod
    def packed_bytes(self, numel: int) -> int:
        """Number of bytes of ``numel`` packed codes."""

    @abstractmethod
    def check_stored(self, largest: int, last: int, numel: int) -> None:
        """Raise the FormatError that ``unpack`` would raise for the values of packed bytes, without unpacking them.

        largest: the largest byte. last: the last byte. numel: number of codes.
        """

    def parts_values(self, groups: int) -> int:
        """Number of floats in all parts together, for ``groups`` groups."""
        return sum(math.prod(part.shape(groups)) for part in self.parts)

    def check_codes(self, codes: Tensor) -> None:
        """Raise FormatError if a code is outside ``code_range``."""
        low, high = self.code_range
        if codes.numel() and not low <= int(codes.min()) <= int(codes.max()) <= high:
            raise FormatError(
                f"{self.name}: codes from {int(codes.min())} to {int(codes.max())}; allowed: {low} to {high}"
            )

    def check_packed(self, packed: Tensor, numel: int) -> None:
        """Raise FormatError if ``packed`` is not a flat uint8 tensor of the right length."""
        expected = self.packed_bytes(numel)
        if packed.dtype != torch.uint8 or packed.dim() != 1 or packed.numel() != expected:
            raise FormatError(
                f"{self.name}: {numel} codes take {expected} bytes (flat, uint8); "
                f"found {tuple(packed.shape)} of {packed.dtype}"
            )

    def __eq__(self, other: object) -> bool:
        # Compared by value, because deep copies of layers contain copies of their formats.
        return type(other) is type(self) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"
