"""Encodes codes in the block types of GGUF: a block is a run of a row with one scale d in float16.

| type | block | bytes | a value is |
| Q1_0 | 128 | d, 16 bytes of bits, lowest first | d where the bit is set, else -d |
| TQ2_0 | 256 | 64 bytes, d | (q - 1) d; of 128 values, value 32 p + i lies in bits 2p, 2p + 1 of byte i |
| Q4_0 | 32 | d, 16 bytes | (q - 8) d; value i in the low, value 16 + i in the high half of byte i |
| Q8_0 | 32 | d, 32 bytes of int8 | q d |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from xtc_ds.formats.bits import pack_bits

__all__ = ["BLOCKS", "BlockType"]


def _q1_0(codes: Tensor) -> Tensor:
    return pack_bits((codes > 0).to(torch.uint8).reshape(-1), 1).reshape(len(codes), -1)


def _tq2_0(codes: Tensor) -> Tensor:
    places = (codes + 1).to(torch.uint8).reshape(len(codes), 2, 4, 32)
    return _merge([places[:, :, place] for place in range(4)], 2).reshape(len(codes), -1)


def _q4_0(codes: Tensor) -> Tensor:
    halves = (codes + 8).to(torch.uint8).reshape(len(codes), 2, 16)
    return _merge([halves[:, 0], halves[:, 1]], 4)


def _q8_0(codes: Tensor) -> Tensor:
    return codes.to(torch.int8).view(torch.uint8)


def _merge(parts: list[Tensor], bits: int) -> Tensor:
    result = parts[0].clone()
    for place, part in enumerate(parts[1:], start=1):
        result |= part << (bits * place)
    return result


@dataclass(frozen=True)
class BlockType:
    """name: in gguf. size: values per block. levels: codes that it can store. scale_first: d precedes the codes."""

    name: str
    size: int
    levels: tuple[int, ...]
    scale_first: bool
    pack: Callable[[Tensor], Tensor]

    def holds(self, codes: tuple[int, ...], columns: int, run: int) -> bool:
        """Whether rows of ``columns`` codes, with one scale for every ``run`` consecutive ones, can be stored."""
        return set(codes) <= set(self.levels) and columns % self.size == 0 and run % self.size == 0

    def encode(self, codes_OI: Tensor, scales_OI: Tensor) -> Tensor:
        """Encode codes (O, I) as uint8 (O, bytes per row). scales_OI: float16 (O, I / size), one per block."""
        rows = codes_OI.shape[0]
        packed = self.pack(codes_OI.reshape(-1, self.size))
        scale = scales_OI.reshape(-1, 1).contiguous().view(torch.uint8)
        parts = [scale, packed] if self.scale_first else [packed, scale]
        return torch.cat(parts, dim=1).reshape(rows, -1)


#: the block types, the one with the fewest bits first
BLOCKS = (
    BlockType("Q1_0", 128, (-1, 1), True, _q1_0),
    BlockType("TQ2_0", 256, (-1, 0, 1), False, _tq2_0),
    BlockType("Q4_0", 32, tuple(range(-8, 8)), True, _q4_0),
    BlockType("Q8_0", 32, tuple(range(-128, 128)), True, _q8_0),
)
