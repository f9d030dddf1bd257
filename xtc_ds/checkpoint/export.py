"""``export_packed``: write a packed checkpoint atomically."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from xtc_ds.checkpoint.about import check_about
from xtc_ds.checkpoint.card import CARD_NAME, is_own_card
from xtc_ds.checkpoint.export_folder import export_folder, refuse_unreplaceable
from xtc_ds.checkpoint.files import MAX_SHARD_SIZE, write_files
from xtc_ds.checkpoint.frozen import freeze
from xtc_ds.checkpoint.quantization_config import QUANT_METHOD
from xtc_ds.compression_state import state_of, update_state
from xtc_ds.distributed import on_rank_zero
from xtc_ds.errors import ExportError

__all__ = ["ExportReport", "check_target", "export_packed"]


@dataclass(frozen=True)
class ExportReport:
    """What was written. Sizes in bytes, measured on disk; ``tensor_bytes`` excludes the safetensors headers."""

    folder: Path
    file_bytes: int
    tensor_bytes: int
    header_bytes: int


def export_packed(
    model: Any,
    folder: str | os.PathLike[str],
    tokenizer: Any = None,
    *,
    max_shard_size: int | str = MAX_SHARD_SIZE,
    scores: Mapping[str, float | str] | None = None,
    about: Mapping[str, str] | None = None,
) -> ExportReport:
    """Write ``model`` to ``folder``: its weights, ``config.json`` with ``quantization_config``, and a model card.

    model: a frozen model; or a compressed model or its engine, which is frozen first. All ranks have to call this;
        rank 0 writes.
    tokenizer: if given, saved to the same folder.
    max_shard_size: larger checkpoints are split into several files with an index; a string such as "5GB", or bytes.
    scores: name to value, shown on the model card; a frozen model keeps them for its next export.
    about: more facts for the model card: "base_model" and "teacher" (by default their hub ids, if they came from the
        hub), "dataset" (on which the scores were measured), "license", "language".

    The write is atomic: the folder appears complete or not at all. An existing folder is replaced only if it is empty
    or an earlier export; a README.md of the user's own is kept. Raises ExportError, on all ranks, if the folder cannot
    be written.
    """
    frozen = freeze(model)
    for name, value in (scores or {}).items():
        if not isinstance(value, (int, float, str)):
            raise ExportError(f"scores: {name} is {value!r}; a number or a text is needed")
    told = {**check_about(about or {}), **({} if scores is None else {"scores": dict(scores)})}
    if told:
        update_state(frozen, about={**state_of(frozen).about, **told})
    return on_rank_zero(lambda: _write(frozen, Path(folder), tokenizer, max_shard_size))


def _write(frozen: nn.Module, folder: Path, tokenizer: Any, max_shard_size: int | str) -> ExportReport:
    target = Path(os.path.abspath(folder))
    with export_folder(target, check_target) as temporary:
        if (target / CARD_NAME).is_file() and not is_own_card(target / CARD_NAME):
            shutil.copy2(target / CARD_NAME, temporary)
        names = [file.name for file in write_files(frozen, temporary, max_shard_size)]
        if tokenizer is not None:
            tokenizer.save_pretrained(temporary)
    files = [target / name for name in names]
    size, header = sum(file.stat().st_size for file in files), sum(_header_bytes(file) for file in files)
    return ExportReport(folder, size, size - header, header)


def _header_bytes(file: Path) -> int:
    with file.open("rb") as stream:
        return 8 + int.from_bytes(stream.read(8), "little")


def check_target(folder: Path) -> None:
    """Raise ExportError if ``folder`` (absolute) holds files that an export must not replace."""
    refuse_unreplaceable(folder)
    if folder.is_dir() and any(file.name != CARD_NAME for file in folder.iterdir()) and not _is_export(folder):
        raise ExportError(f"{folder} holds files that are not an earlier export; name another folder")


def _is_export(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return bool(config["quantization_config"]["quant_method"] == QUANT_METHOD)
    except (OSError, ValueError, KeyError, TypeError):
        return False
