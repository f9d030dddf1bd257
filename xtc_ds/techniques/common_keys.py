"""Config keys that several techniques share, each with its own default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from xtc_ds.config.keys import Old, key

__all__ = ["QuantizationType", "no_related_modules", "quantization_type", "schedule_offset"]

QuantizationType = Literal["symmetric", "asymmetric"]


def schedule_offset(default: int, examples: Sequence[int]) -> Any:
    """The key ``schedule_offset``; the old library's documentation gave the default 0 for every technique."""
    return key(
        "Applied optimizer steps before the technique starts; 0 starts with the first forward.",
        default,
        examples=examples,
        minimum=0,
        old=Old(group_ignored=True, documented=0),
        aliases=("offset",),
    )


def quantization_type() -> Any:
    """The key ``quantization_type``."""
    return key(
        "Symmetric: the grid is centred on zero. Asymmetric: the grid spans from the smallest to the largest value, "
        "with a zero point. 1 bit, 1.58 bits and ternary need symmetric.",
        "symmetric",
        examples=("symmetric",),
        old=Old(group_ignored=True),
        aliases=("symmetric",),
    )


def no_related_modules() -> Any:
    """The key ``related_modules`` for techniques where old configs may contain it without effect."""
    return key(
        "Kept for old configs, where it had a meaning for row, head and channel pruning only; must be null.",
        None,
        scope="group",
        examples=(None,),
        allowed="null (it has a meaning for row, head and channel pruning only)",
        old=Old(),
    )
