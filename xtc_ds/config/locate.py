"""Key paths into the block: their notation and their order."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["BLOCK", "Path", "document_order", "render_path", "show_value"]

BLOCK = "compression_training"
Path = tuple[str | int, ...]

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_\-/+]+")
_LONGEST_VALUE = 60


def render_path(path: Path) -> str:
    """``("kd", "layer_map", 0)`` becomes ``compression_training.kd.layer_map[0]``.

    Keys with dots, blanks or brackets are written as ``["my.key"]``.
    """
    text = BLOCK
    for part in path:
        if isinstance(part, str) and _PLAIN_KEY.fullmatch(part):
            text += f".{part}"
        else:
            text += f"[{show_value(part)}]"
    return text


def show_value(value: Any) -> str:
    """``value`` as JSON on one line, shortened to about 60 characters."""
    text = json.dumps(value, ensure_ascii=False, default=lambda other: f"<{type(other).__name__}>")
    if not text.isprintable():
        text = json.dumps(value, default=lambda other: f"<{type(other).__name__}>")
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 4]} ..."


def document_order(block: Any, path: Path) -> tuple[int, ...]:
    """A sort key for paths in the order of the document; a missing key sorts after its siblings."""
    order: list[int] = []
    here = block
    for part in path:
        if isinstance(here, dict) and part in here:
            order.append(list(here).index(part))
            here = here[part]
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            order.append(part)
            here = here[part]
        else:
            order.append(len(here) if isinstance(here, dict | list) else 0)
            break
    return tuple(order)
