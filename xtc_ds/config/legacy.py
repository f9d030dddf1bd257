"""Top-level keys of the DeepSpeed config that are meant for compression but are not, or no longer, used for it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from xtc_ds.config.locate import BLOCK
from xtc_ds.config.section import sections
from xtc_ds.errors import Problem

__all__ = ["check_top_level"]


def check_top_level(ds_config: Mapping[str, Any]) -> list[Problem]:
    """Problems with the keys beside the block; DeepSpeed checks the rest of the config."""
    remedies = {key: remedy for section in sections() for key, remedy in section.old_top_level.items()}
    found = []
    for key in ds_config:
        if key in remedies:
            found.append(Problem(key, remedies[key]))
        elif isinstance(key, str) and key != BLOCK and _nearly_block(key):
            found.append(Problem(key, f"unknown key, it would be ignored; did you mean '{BLOCK}'?"))
    return found


def _nearly_block(key: str) -> bool:
    word = "".join(letter for letter in key.lower() if letter.isalnum())
    if word in ("compression", "compress", "compressiontrain", "compressionconfig"):
        return True
    return difflib.SequenceMatcher(None, word[:100], BLOCK.replace("_", "")).ratio() >= 0.85
