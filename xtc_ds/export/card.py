"""The model card of a packed checkpoint: how many bits, what size before and after, and the scores. MB = 1e6 bytes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import nn

from xtc_ds.export.packed import PackedLayer
from xtc_ds.formats import get_format

__all__ = ["CARD_NAME", "card_text", "is_own_card", "write_card"]

CARD_NAME = "README.md"
_MARK = "<!-- written by xtc_ds; remove this line to keep your own text -->"


def write_card(model: nn.Module, folder: Path, file_bytes: int) -> None:
    """Write the card unless the folder holds one that is the user's."""
    file = folder / CARD_NAME
    if not file.exists() or is_own_card(file):
        file.write_text(card_text(model, file_bytes), encoding="utf-8")


def is_own_card(file: Path) -> bool:
    """Whether a card was written here and not changed into the user's own since."""
    try:
        return _MARK in file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False


def card_text(model: nn.Module, file_bytes: int) -> str:
    """The card of a frozen model whose weights take ``file_bytes`` on disk."""
    about: dict[str, Any] = getattr(model, "xtc_about", None) or {}
    lines = ["---", "library_name: transformers", "tags: [xtc, quantized]", "---", "", _MARK, ""]
    lines += [f"# {type(model).__name__}, packed", "", *_size_lines(about, file_bytes), ""]
    lines += ["| weights | bits | tensors | of all weights |", "|---|---|---|---|", *_bit_rows(model), ""]
    scores = about.get("scores")
    if scores:
        lines += ["| score | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in scores.items()), ""]
    name = type(model).__name__
    lines += ["```python", "import xtc_ds  # lets transformers read the file"]
    if hasattr(model, "save_pretrained"):
        lines += [f"from transformers import {name}", "", f'model = {name}.from_pretrained("PATH_OR_ID")', "```", ""]
    else:
        lines += ["", f'model = xtc_ds.load_into({name}(...), "PATH")', "```", ""]
    return "\n".join(lines)


def _size_lines(about: dict[str, Any], file_bytes: int) -> list[str]:
    line = f"The weights take {file_bytes / 1e6:.2f} MB"
    before = about.get("original_bytes")
    if before:
        line += f"; before compression, in 32 bits, {before / 1e6:.2f} MB ({before / file_bytes:.1f} times as much)"
    return [f"{line}. MB = 1e6 bytes."]


def _bit_rows(model: nn.Module) -> list[str]:
    counts: dict[tuple[str, str], list[int]] = {}
    seen: set[int] = set()
    owned = {id(module.weight): module for module in model.modules() if isinstance(module, PackedLayer)}
    for parameter in model.parameters():
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        layer = owned.get(id(parameter))
        if layer is None or layer.spec.format is None:
            key, numel = (str(getattr(model, "xtc_float_dtype", "float32")), ""), parameter.numel()
            if layer is not None:
                numel = math.prod(layer.spec.shape)
        else:
            key, numel = (layer.spec.format, f"{get_format(layer.spec.format).bits:.3g}"), math.prod(layer.spec.shape)
        counts.setdefault(key, [0, 0])
        counts[key][0] += 1
        counts[key][1] += numel
    total = sum(numel for _, numel in counts.values())
    widths = {"float32": "32", "float16": "16", "bfloat16": "16"}
    return [
        f"| {name} | {bits or widths[name]} | {tensors} | {100 * numel / total:.1f} % |"
        for (name, bits), (tensors, numel) in sorted(counts.items(), key=lambda item: -item[1][1])
    ]
