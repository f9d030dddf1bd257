"""``save_pretrained`` and ``push_to_hub`` of frozen Hugging Face models; they write the files of ``export_packed``."""

from __future__ import annotations

import os
from pathlib import Path
from types import MethodType
from typing import Any

from torch import nn

from xtc_ds.checkpoint.card import CARD_NAME, card_text, is_own_card
from xtc_ds.checkpoint.card_metadata import tags_of
from xtc_ds.checkpoint.files import MAX_SHARD_SIZE, write_files
from xtc_ds.checkpoint.shards import weight_files
from xtc_ds.errors import ExportError

__all__ = ["make_savable"]

# A sentence of transformers' model card template, by which an untouched template is recognized.
_TEMPLATE = "This model card has been automatically generated"


def make_savable(model: nn.Module) -> None:
    """Give a frozen transformers model a ``save_pretrained`` that writes the packed format, in place.

    The one of transformers writes metadata in a random order and no checksums. Other models are left unchanged.
    """
    if hasattr(model, "save_pretrained") and hasattr(model, "config"):
        model.save_pretrained = MethodType(save_pretrained, model)  # type: ignore[assignment]
    if hasattr(model, "_upload_modified_files"):
        model._upload_modified_files = MethodType(_upload_modified_files, model)  # type: ignore[assignment]


def save_pretrained(
    self: Any,
    save_directory: str | os.PathLike[str],
    is_main_process: bool = True,
    state_dict: Any = None,
    push_to_hub: bool = False,
    max_shard_size: int | str | None = None,
    variant: str | None = None,
    safe_serialization: bool = True,
    repo_id: str | None = None,
    **kwargs: Any,
) -> None:
    """Like ``PreTrainedModel.save_pretrained``, in the packed format; equal models give equal bytes.

    ``state_dict`` is ignored: the model's own codes are written. ``kwargs`` are passed to ``push_to_hub``. Raises
    ExportError for a ``variant``, for ``safe_serialization=False``, and if the folder cannot be written.
    """
    if variant is not None or not safe_serialization:
        raise ExportError("save_pretrained: packed checkpoints are safetensors files without a variant")
    folder, shard_size = Path(save_directory), max_shard_size or MAX_SHARD_SIZE
    if is_main_process:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_files(self, folder, shard_size)
        except OSError as error:
            raise ExportError(f"cannot write {folder}: {error}") from error
        if push_to_hub:
            kept = ("commit_message", "private", "token", "revision", "create_pr", "commit_description", "tags")
            options = {key: kwargs[key] for key in kept if key in kwargs}
            self.push_to_hub(repo_id or folder.name, max_shard_size=shard_size, **options)


def _upload_modified_files(
    self: Any, working_dir: str | os.PathLike[str], repo_id: str, *args: Any, **kwargs: Any
) -> Any:
    """Like transformers' method, but first replace a template card, or an earlier card of xtc_ds, by ``card_text``."""
    folder = Path(working_dir)
    card = folder / CARD_NAME
    if card.is_file():
        old = card.read_text(encoding="utf-8")
        if _TEMPLATE in old or is_own_card(card):
            size = sum(file.stat().st_size for file in weight_files(folder))
            card.write_text(card_text(self, size, repo_id, tags_of(old)), encoding="utf-8")
    return type(self)._upload_modified_files(self, working_dir, repo_id, *args, **kwargs)
