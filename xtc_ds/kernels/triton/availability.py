"""Where the Triton kernels run and what they take. Imports no Triton."""

from __future__ import annotations

import importlib
import os
from functools import cache
from importlib.util import find_spec

import torch

from xtc_ds.formats import Grouping, WeightFormat

__all__ = [
    "INTERPRETED",
    "MOST_INPUTS",
    "interpreted",
    "load_kernels",
    "takes_input",
    "takes_weight",
    "triton_available",
]

# Integer matrix instructions of 8 bits and bfloat16.
_LEAST_CAPABILITY = (8, 0)
# Sums of this many products of two 8-bit codes stay below 2**31.
MOST_INPUTS = 2**31 // (255 * 128) - 1


def interpreted() -> bool:
    """Whether Triton runs kernels on the CPU, in its interpreter: exact and slow, for tests."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on")


#: as the process was started, which is when Triton itself looks
INTERPRETED = interpreted()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def load_kernels(device: torch.device | str) -> bool:
    """``triton_available``; where it is, the kernels and their operators are there afterwards, for traced code too."""
    available: bool = triton_available(device)
    if available:
        importlib.import_module("xtc_ds.kernels.triton.packed")
    return available


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def triton_available(device: torch.device | str) -> bool:
    """Whether the kernels run on tensors of ``device``: an NVIDIA GPU since Ampere, or any CPU if interpreted."""
    device = torch.device(device)
    if device.type == "cpu":
        return interpreted() and _installed()
    if device.type != "cuda" or interpreted() or not torch.cuda.is_available() or torch.version.cuda is None:
        return False
    return _installed() and _capability(torch.cuda.current_device() if device.index is None else device.index)


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


@cache
def _capability(index: int) -> bool:
    return torch.cuda.get_device_capability(index) >= _LEAST_CAPABILITY


def takes_weight(weight_format: WeightFormat, grouping: Grouping, shape: tuple[int, ...]) -> bool:
    """Whether a weight (O, I) is of a kind that the kernels multiply: a grid around zero and one scale per row."""
    low, high = weight_format.code_range
    return (
        grouping.per_row
        and weight_format.scaled_codes
        and low >= -128
        and high <= 127
        and len(shape) == 2
        and shape[0] > 0
        and 0 < shape[1] <= MOST_INPUTS
    )


def takes_input(dtype: torch.dtype, x_bits: int | None) -> bool:
    """Whether inputs of ``dtype`` are taken, as codes of ``x_bits`` bits or (None) as they are.

    Floats times codes run in half precision alone: the matrix units round float32 to fewer bits.
    """
    if x_bits is None:
        return dtype in (torch.float16, torch.bfloat16)
    return 2 <= x_bits <= 8 and dtype in (torch.float16, torch.bfloat16, torch.float32)
