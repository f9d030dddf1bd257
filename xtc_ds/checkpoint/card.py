"""The model card of a packed checkpoint: bits per weight, size before and after, and scores. MB = 1e6 bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from xtc_ds.checkpoint.card_metadata import card_metadata
from xtc_ds.compression_state import state_of
from xtc_ds.formats import get_format
from xtc_ds.runtime.packed import PackedLayer, weight_identity

__all__ = ["CARD_NAME", "card_text", "is_own_card", "write_card"]

CARD_NAME = "README.md"
_WIDTHS = {"float32": "32", "float16": "16", "bfloat16": "16"}
_MARK = "<!-- written by xtc_ds; remove this line to keep your own text -->"


def write_card(model: nn.Module, folder: Path, file_bytes: int) -> None:
    """Write the model card, unless the folder holds a card that the user wrote or edited."""
    file = folder / CARD_NAME
    if not file.exists() or is_own_card(file):
        file.write_text(card_text(model, file_bytes), encoding="utf-8")


def is_own_card(file: Path) -> bool:
    """Whether ``file`` is a card written by xtc_ds, from which the user has not removed the marker line."""
    try:
        return _MARK in file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False


def card_text(model: nn.Module, file_bytes: int, repository: str | None = None, tags: Iterable[str] = ()) -> str:
    """The text of the card of a frozen model whose weights take ``file_bytes`` on disk.

    repository: id on the Hugging Face hub. tags: hub tags in addition to those of xtc_ds.
    """
    about = dict(state_of(model).about)
    name, rows = type(model).__name__, _counts(model)
    numel = sum(count for _, count in rows.values())
    lines = [*card_metadata(name, repository or name, about, tags), "", _MARK, ""]
    lines += [f"# {name}, packed", "", *_size_lines(about, file_bytes, numel), *_origin_lines(about), ""]
    lines += ["| weights | bits | tensors | of all weights |", "|---|---|---|---|", *_bit_rows(rows, numel), ""]
    scores = sorted((about.get("scores") or {}).items())  # as the file has them
    if scores:
        lines += ["| score | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in scores), ""]
    lines += ["Needs the package `xtc-ds`:", "", "```python", "import xtc_ds  # lets transformers read the file"]
    if hasattr(model, "save_pretrained"):
        where = repository or "PATH_OR_ID"
        lines += [f"from transformers import {name}", "", f'model = {name}.from_pretrained("{where}")', "```", ""]
    else:
        lines += ["", f'model = xtc_ds.load_into({name}(...), "PATH")', "```", ""]
    return "\n".join(lines)


def _size_lines(about: dict[str, Any], file_bytes: int, numel: int) -> list[str]:
    line = f"The weights take {file_bytes / 1e6:.2f} MB"
    before = about.get("original_bytes")
    if before:
        line += f"; before compression, in 32 bits, {before / 1e6:.2f} MB ({before / file_bytes:.1f} times as much)"
    return [f"{line}. MB = 1e6 bytes.", f"{numel} weights, {8 * file_bytes / numel:.2f} bits each on average."]


def _origin_lines(about: dict[str, Any]) -> list[str]:
    told = (("Compressed from", "base_model"), ("taught by", "teacher"), ("scored on", "dataset"))
    parts = [f"{words} {about[key]}" for words, key in told if about.get(key)]
    text = ", ".join(parts)
    return ["", f"{text[0].upper()}{text[1:]}."] if text else []


def _counts(model: nn.Module) -> dict[tuple[str, str], tuple[int, int]]:
    """Map (format, bits) to (number of tensors, number of weights); tied tensors count once."""
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    owned: dict[int, PackedLayer] = {}
    beside: set[int] = set()
    for module in model.modules():
        if isinstance(module, PackedLayer):
            value, *others = weight_identity(module)
            owned[value], beside = module, beside | set(others)
    for parameter in model.parameters():
        if id(parameter) in beside:
            continue  # another factor of a weight that is counted
        layer = owned.get(id(parameter))
        numel = parameter.numel() if layer is None else math.prod(layer.spec.shape)
        if layer is None or layer.spec.format is None:
            dtype = state_of(model).float_dtype
            key = dtype, _WIDTHS[dtype]
        else:
            key = layer.spec.format, f"{get_format(layer.spec.format).bits:.3g}"
        tensors, weights = counts.get(key, (0, 0))
        counts[key] = tensors + 1, weights + numel
    return counts


def _bit_rows(counts: dict[tuple[str, str], tuple[int, int]], total: int) -> list[str]:
    return [
        f"| {name} | {bits} | {tensors} | {100 * numel / total:.1f} % |"
        for (name, bits), (tensors, numel) in sorted(counts.items(), key=lambda item: -item[1][1])
    ]
