"""Encodes the positions of the weights that are not pruned as bytes.

The positions are stored either as one bit per weight or, for a pattern that keeps ``kept`` of every ``of`` neighbouring
inputs ("2:4"), as the index of the combination that each group keeps. A group that keeps the positions p_1 < p_2 < ..
has the index C(p_1, 1) + C(p_2, 2) + .. (combinatorial number system), in as many bits as needed for C(of, kept).

Shape legend: O and I = output and input features or channels.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from xtc_ds.errors import FormatError
from xtc_ds.formats.bits import pack_bits, packed_size, unpack_bits

__all__ = ["MOST_COMBINATIONS", "Places", "pattern_fits"]

# Indices of combinations must fit a byte.
MOST_COMBINATIONS = 256


@dataclass(frozen=True)
class Places:
    """How the positions of the kept weights are encoded.

    kept: the number of kept weights. pattern: (kept, of) neighbouring inputs; None for one bit per weight.
    """

    kept: int
    pattern: tuple[int, int] | None

    def bytes(self, numel: int) -> int:
        """Bytes that the positions among ``numel`` weights take."""
        if self.pattern is None:
            return packed_size(numel, 1)
        return packed_size(numel // self.pattern[1], _index_bits(self.pattern))

    def pack(self, mask: Tensor) -> Tensor:
        """The positions as a flat uint8 tensor. mask: bool, (O, I) or (O, I, kH, kW); must fit the pattern."""
        flat = self.arranged(mask)
        if self.pattern is None:
            return pack_bits(flat.to(torch.uint8), 1)
        kept, of = self.pattern
        places = flat.reshape(-1, of).to(torch.uint8).nonzero()[:, 1].reshape(-1, kept)
        table = torch.tensor([[math.comb(place, n + 1) for n in range(kept)] for place in range(of)])
        numbers = sum(table[places[:, n], n] for n in range(kept))
        assert isinstance(numbers, Tensor)
        return pack_bits(numbers.to(torch.uint8), _index_bits(self.pattern))

    def unpack(self, packed: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The inverse of ``pack``: the mask in ``shape``. Raises FormatError if the bytes are invalid."""
        numel = math.prod(shape)
        if packed.dtype != torch.uint8 or packed.dim() != 1 or packed.numel() != self.bytes(numel):
            raise FormatError(
                f"the mask of {numel} weights takes {self.bytes(numel)} bytes (flat, uint8); "
                f"found {tuple(packed.shape)} of {packed.dtype}"
            )
        if self.pattern is None:
            flat = unpack_bits(packed, 1, numel).bool()
        else:
            kept, of = self.pattern
            numbers = unpack_bits(packed, _index_bits(self.pattern), numel // of)
            if numbers.numel() and int(numbers.max()) >= math.comb(of, kept):
                raise FormatError(f"the mask names combination {int(numbers.max())} of {math.comb(of, kept)}")
            flat = _combinations(self.pattern).to(packed.device).index_select(0, numbers.int()).reshape(-1)
        if (found := int(flat.sum())) != self.kept:
            raise FormatError(f"the mask keeps {found} weights; {self.kept} are stored")
        return self._restored(flat, shape)

    def kept_values(self, values: Tensor, mask: Tensor) -> Tensor:
        """The kept values, flat, in the order in which they are stored."""
        return self.arranged(values)[self.arranged(mask)]

    def scattered(self, kept: Tensor, mask: Tensor) -> Tensor:
        """The inverse of ``kept_values``: a tensor of the mask's shape, with 0 for pruned values."""
        flat = kept.new_zeros(mask.numel())
        flat[self.arranged(mask)] = kept
        return self._restored(flat, tuple(mask.shape))

    def arranged(self, w: Tensor) -> Tensor:
        """``w`` flattened in storage order: row-major, but (O, kH, kW, I) for a convolution with a pattern."""
        return (w.permute(0, 2, 3, 1) if self.pattern is not None and w.dim() == 4 else w).reshape(-1)

    def _restored(self, flat: Tensor, shape: tuple[int, ...]) -> Tensor:
        if self.pattern is None or len(shape) == 2:
            return flat.reshape(shape)
        outputs, inputs, height, width = shape
        return flat.reshape(outputs, height, width, inputs).permute(0, 3, 1, 2).contiguous()


def pattern_fits(pattern: tuple[int, int], mask: Tensor) -> bool:
    """Whether ``mask``, bool, (O, I) or (O, I, kH, kW), keeps exactly ``kept`` of every ``of`` neighbouring inputs."""
    kept, of = pattern
    if mask.shape[1] % of:
        return False
    inputs_last = mask.permute(0, 2, 3, 1) if mask.dim() == 4 else mask
    return bool((inputs_last.reshape(-1, of).sum(1) == kept).all())


def _index_bits(pattern: tuple[int, int]) -> int:
    # A single combination still takes one bit, as values of zero bits cannot be unpacked.
    return max(1, (math.comb(pattern[1], pattern[0]) - 1).bit_length())


def _combinations(pattern: tuple[int, int]) -> Tensor:
    """Masks of all combinations, bool (C(of, kept), of): row i is combination i."""
    # Tensors created while tracing must not be cached, so the rows are cached as lists.
    return torch.tensor(_combination_rows(pattern))


@cache
def _combination_rows(pattern: tuple[int, int]) -> list[list[bool]]:
    kept, of = pattern
    rows = [[False] * of for _ in range(math.comb(of, kept))]
    for places in itertools.combinations(range(of), kept):
        index = sum(math.comb(place, n + 1) for n, place in enumerate(places))
        rows[index] = [place in places for place in range(of)]
    return rows
