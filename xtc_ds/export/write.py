"""``export_packed``: write a packed checkpoint, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from xtc_ds.distributed import on_rank_zero
from xtc_ds.errors import ExportError
from xtc_ds.export.freeze import freeze
from xtc_ds.export.quantization_config import QUANT_METHOD, describe_packed
from xtc_ds.export.tensors import file_metadata, order_header, stored_tensors

__all__ = ["ExportReport", "export_packed"]

WEIGHTS_NAME = "model.safetensors"


@dataclass(frozen=True)
class ExportReport:
    """What was written. Sizes in bytes, measured on disk; ``tensor_bytes`` is without the file's header."""

    folder: Path
    file_bytes: int
    tensor_bytes: int
    header_bytes: int


def export_packed(model: Any, folder: str | os.PathLike[str], tokenizer: Any = None) -> ExportReport:
    """Write ``model`` to ``folder`` as ``model.safetensors`` and ``config.json`` with its ``quantization_config``.

    model: a frozen model, or a compressed one or its engine, which is frozen first. A call for all ranks in
        both cases; rank 0 writes.
    tokenizer: saved beside the model if given.

    The folder appears whole or not at all. One that exists is replaced only if it is an earlier export or
    empty. Raises ExportError, on all ranks, if it cannot be written.
    """
    frozen = freeze(model)
    return on_rank_zero(lambda: _write(frozen, Path(folder), tokenizer))


def _write(frozen: nn.Module, folder: Path, tokenizer: Any) -> ExportReport:
    target = Path(os.path.abspath(folder))
    try:
        _check_target(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            _write_files(frozen, temporary, tokenizer)
            temporary.chmod(0o755)
            _move_into_place(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise ExportError(f"cannot write {folder}: {error}") from error
    size = (target / WEIGHTS_NAME).stat().st_size
    with (target / WEIGHTS_NAME).open("rb") as file:
        header = 8 + int.from_bytes(file.read(8), "little")
    return ExportReport(folder, size, size - header, header)


def _write_files(frozen: nn.Module, folder: Path, tokenizer: Any) -> None:
    float_dtype = str(frozen.xtc_float_dtype)
    tensors = stored_tensors(frozen, float_dtype)
    save_file(tensors, folder / WEIGHTS_NAME, metadata=file_metadata(frozen))
    order_header(folder / WEIGHTS_NAME)
    config = getattr(frozen, "config", None)
    if config is not None and hasattr(config, "save_pretrained"):
        config.architectures = [type(frozen).__name__]
        floats = (p.dtype for p in frozen.parameters() if p.is_floating_point())
        config.dtype = str(next(floats, "float32")).removeprefix("torch.")
        config.save_pretrained(folder)
        generation = getattr(frozen, "generation_config", None)
        if generation is not None:
            generation.save_pretrained(folder)
    else:
        content = {"quantization_config": describe_packed(frozen, float_dtype).to_dict()}
        (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    # safetensors gives its files to the owner alone; a checkpoint is read like any other file.
    (folder / WEIGHTS_NAME).chmod((folder / "config.json").stat().st_mode & 0o777)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _check_target(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ExportError(f"{folder} is a file; name a folder that does not exist yet")
    if Path.cwd().is_relative_to(folder):
        raise ExportError(f"{folder} is or holds the current folder, which cannot be replaced; name another folder")
    if any(folder.iterdir()) and not _is_export(folder):
        raise ExportError(f"{folder} holds files that are not an earlier export; name another folder")


def _is_export(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return bool(config["quantization_config"]["quant_method"] == QUANT_METHOD)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _move_into_place(temporary: Path, folder: Path) -> None:
    if not folder.exists():
        temporary.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    try:
        folder.rename(old / folder.name)
        try:
            temporary.rename(folder)
        except OSError:
            (old / folder.name).rename(folder)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
