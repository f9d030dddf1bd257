"""The weight files of a packed checkpoint: one file, or shards with an index, named as by ``save_pretrained``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor

from xtc_ds.checkpoint.safetensors_file import StoredHeader, write_file
from xtc_ds.errors import ExportError

__all__ = ["INDEX_NAME", "WEIGHTS_NAME", "check_index", "weight_files", "write_weights"]

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


def write_weights(
    folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], max_shard_size: int | str
) -> list[Path]:
    """Write the tensors to one file, or to shards of at most ``max_shard_size`` ("5GB", or bytes) and an index.

    Weight files of an earlier checkpoint in the folder are deleted. A tensor larger than the limit gets a shard of its
    own. Returns the files. Raises ExportError if ``max_shard_size`` is not a size.
    """
    try:
        split = split_torch_state_dict_into_shards(
            dict(tensors), filename_pattern="model{suffix}.safetensors", max_shard_size=max_shard_size
        )
    except (ValueError, TypeError) as error:
        raise ExportError(f"max_shard_size: found {max_shard_size!r}; write it as '5GB', '200MB' or bytes") from error
    for old in folder.iterdir():
        if old.name in (WEIGHTS_NAME, INDEX_NAME) or _SHARD.fullmatch(old.name):
            old.unlink()
    for name, keys in split.filename_to_tensors.items():
        write_file(folder / name, {key: tensors[key] for key in keys}, metadata)
    if split.is_sharded:
        total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": split.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True)
        (folder / INDEX_NAME).write_text(text + "\n", encoding="utf-8")
    return [folder / name for name in sorted(split.filename_to_tensors)]


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder. Raises ExportError if there are none or a shard of the index is missing."""
    single, index = folder / WEIGHTS_NAME, folder / INDEX_NAME
    if single.is_file():
        return [single]
    if not index.is_file():
        raise ExportError(f"{folder}: has no {WEIGHTS_NAME} and no {INDEX_NAME}; export the model again")
    files = [folder / name for name in sorted(set(_weight_map(index).values()))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise ExportError(
            f"{folder}: {', '.join(missing)} of {INDEX_NAME} is missing; get it from where the others are"
        )
    return files


def check_index(headers: Iterable[StoredHeader]) -> None:
    """Raise ExportError if the index beside the shards does not map exactly their tensors to their files."""
    headers = list(headers)
    index = headers[0].file.with_name(INDEX_NAME) if headers else None
    if index is None or headers[0].file.name == WEIGHTS_NAME or not index.is_file():
        return
    found = {name: header.file.name for header in headers for name in header.tensors}
    told = _weight_map(index)
    if differing := sorted(name for name in found.keys() | told.keys() if found.get(name) != told.get(name)):
        name = differing[0]
        places = f"{told.get(name, 'nowhere')}; it is in {found.get(name, 'no file')}"
        raise ExportError(f"{index}: places {name} in {places}")


def _weight_map(index: Path) -> dict[str, str]:
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if not all(_SHARD.fullmatch(name) for name in names.values()):
            raise ValueError("a name of a file is none of ours")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ExportError(f"{index}: cannot be read: {error!r}") from error
    return dict(names)
