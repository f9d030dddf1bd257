"""Weights in the layout of the Triton kernels, converted from row-major codes.

Below 8 bits, a 32-bit word holds two lanes of 16 bits: the low lane belongs to output ``w``, the high lane to output
``W + w``, where W is half the number of outputs, rounded up. A lane holds the stored values of ``16 / bits``
consecutive inputs, the first in its lowest bits. So one shift and one mask extract a value of each of the two outputs,
and one 32-bit multiplication by an input code multiplies both. Words are contiguous along W, so that neighbouring
threads read neighbouring addresses (coalesced).

Shape legend: O = output features, I = input features, R = rows of words, W = words in a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xtc_ds.formats import WeightFormat

__all__ = ["INPUT_MULTIPLE", "STORED", "TritonWeight", "bits_of", "padded", "triton_weight"]

# Weight code = mul * c + off, with c the stored value. Per number of bits: (mul, off). 8-bit codes are unchanged.
STORED = {1: (2, -1), 2: (1, -2), 4: (1, -8), 8: (1, 0)}
_RANGES = {2: (-2, 1), 4: (-8, 7), 8: (-128, 127)}
# Inputs are padded to whole blocks, so that the kernels need no masks.
INPUT_MULTIPLE = 128
_LANE_BITS = 16


@dataclass(frozen=True)
class TritonWeight:
    """A weight (O, I).

    words: int32 (R, W) in the layout above; with 8 bits the int8 codes themselves, (O, padded I).
    sums: int32 (O,), sum of the stored values of each output. bits: bits per stored value: 1, 2, 4 or 8.
    """

    words: Tensor
    sums: Tensor
    inputs: int
    bits: int

    @property
    def outputs(self) -> int:
        """The number of output features O."""
        return self.sums.shape[0]


def padded(inputs: int) -> int:
    """``inputs`` rounded up to a multiple of ``INPUT_MULTIPLE``."""
    return -(-inputs // INPUT_MULTIPLE) * INPUT_MULTIPLE


def bits_of(weight_format: WeightFormat) -> int:
    """The fewest bits that hold the format's codes."""
    if weight_format.name == "binary":
        return 1  # the only format whose codes do not include 0
    low, high = weight_format.code_range
    return next(bits for bits, (least, most) in _RANGES.items() if least <= low and high <= most)


def triton_weight(codes: Tensor, weight_format: WeightFormat, bits: int | None = None) -> TritonWeight:
    """Convert int8 ``codes`` (O, I) of a format whose values are codes times a scale; the result is on their device.

    bits: 8 stores one code per byte, which needs no unpacking in the product; None for as few bits as the codes need.
    """
    bits = bits_of(weight_format) if bits is None else bits
    mul, off = STORED[bits]
    inputs = codes.shape[1]
    stored = codes if bits == 8 else (codes - off) // mul
    sums = stored.sum(1, dtype=torch.int32)
    stored = torch.nn.functional.pad(stored, (0, padded(inputs) - inputs))
    words = stored.contiguous() if bits == 8 else _words(stored, bits)
    return TritonWeight(words, sums, inputs, bits)


def _words(stored: Tensor, bits: int) -> Tensor:
    """Pack stored values (O, padded I) into words (R, W)."""
    half = (stored.shape[0] + 1) // 2
    stored = torch.nn.functional.pad(stored, (0, 0, 0, 2 * half - stored.shape[0]))
    lanes = stored.reshape(2, half, -1, _LANE_BITS // bits)
    words = torch.zeros(lanes.shape[1:3], dtype=torch.int32, device=stored.device)
    for place in range(lanes.shape[3]):
        for high in range(2):
            words |= lanes[high, :, :, place].to(torch.int32) << (place * bits + high * _LANE_BITS)
    return words.t().contiguous()
