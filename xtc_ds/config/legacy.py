"""Top-level keys of the DeepSpeed config that mean compression but are not, or no longer, read as such."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from xtc_ds.config.locate import BLOCK
from xtc_ds.errors import Problem

__all__ = ["check_top_level"]

_REMEDY: Mapping[str, str] = {
    "quantize_training": (
        "is no longer read by DeepSpeed and would be ignored; write compression_training.weight_quantization instead, "
        "with start_bits, target_bits and quantization_period in the params of a group (xtc-ds migrate does so)"
    ),
    "eigenvalue": (
        "is no longer read by DeepSpeed; take it out and set how fast the bits fall with "
        "quantization_period in compression_training.weight_quantization"
    ),
}


def check_top_level(ds_config: Mapping[str, Any]) -> list[Problem]:
    """Problems with the keys beside the block; the rest of the config is DeepSpeed's own to check."""
    found = []
    for key in ds_config:
        if key in _REMEDY:
            found.append(Problem(key, _REMEDY[key]))
        elif isinstance(key, str) and key != BLOCK and _nearly_block(key):
            found.append(Problem(key, f"unknown key, it would be ignored; did you mean '{BLOCK}'?"))
    return found


def _nearly_block(key: str) -> bool:
    word = "".join(letter for letter in key.lower() if letter.isalnum())
    if word in ("compression", "compress", "compressiontrain", "compressionconfig"):
        return True
    return difflib.SequenceMatcher(None, word[:100], BLOCK.replace("_", "")).ratio() >= 0.85
