"""Read the weights of a DeepSpeed checkpoint folder, of any ZeRO stage and world size, in one process.

Stages 0 to 2 save the whole model in one file, in the dtype of the forward pass. Stage 3 saves float32 partitions with
each rank's optimizer states; DeepSpeed's own ``zero_to_fp32`` merges these. Files are loaded as tensors and plain data
only; no code in them is executed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xtc_ds.errors import ExportError

__all__ = ["Checkpoint", "find_checkpoint", "read_checkpoint"]

_WHOLE, _PARTS = "mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_model_states.pt"
_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
# DeepSpeed classes that occur in its files besides tensors and plain data. They only hold numbers.
_KNOWN = (
    ("deepspeed.runtime.fp16.loss_scaler", ("LossScaler", "DynamicLossScaler")),
    ("deepspeed.runtime.zero.config", ("ZeroStageEnum",)),
    ("deepspeed.utils.tensor_fragment", ("fragment_address",)),
)


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint.

    tensors: the model's state dict; after ZeRO-3 its floats are float32. ours: what ``xtc_ds`` stored beside it.
    """

    folder: Path
    tensors: dict[str, Tensor]
    ours: dict[str, Any]


def find_checkpoint(folder: Path, tag: str | None) -> Path:
    """The folder of tag ``tag`` in ``folder`` or in its subfolder "checkpoints"; by default the tag in file "latest".

    Raises ExportError, which lists the existing tags, if it is not found.
    """
    if tag is None and any((folder / name).is_file() for name in (_WHOLE, _PARTS)):
        return folder
    root = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
    tags = sorted(file.parent.name for name in (_WHOLE, _PARTS) for file in root.glob(f"*/{name}"))
    if not tags:
        raise ExportError(
            f"{folder}: is neither a DeepSpeed checkpoint nor a packed one (no */{_WHOLE}, no config.json)"
        )
    if tag is None:
        with contextlib.suppress(OSError, ValueError):
            tag = (root / "latest").read_text(encoding="utf-8").strip()
        tag = tag or (tags[0] if len(tags) == 1 else None)
    if tag not in tags:
        what = "which tag? there is no file 'latest'" if tag is None else f"tag '{tag}' is not there"
        raise ExportError(f"{root}: {what}; tags: {', '.join(tags)}")
    return root / tag


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read the checkpoint in a tag's folder.

    Raises ExportError if it is damaged, or was not saved by an engine of ``xtc_ds.initialize``.
    """
    whole = folder / _WHOLE
    try:
        with _tensors_only():
            states = torch.load(whole if whole.is_file() else folder / _PARTS, map_location="cpu", weights_only=True)
            tensors = dict(states["module"])
            ours = states.get("xtc_ds")
            if (parts := states.get("mp_world_size", 1)) != 1:
                raise ValueError(f"tensor parallelism over {parts} ranks is not known here")
            if not whole.is_file():
                tensors = {**_merged(folder), **{name: tensors[name] for name in states["buffer_names"]}}
    except pickle.UnpicklingError as error:
        raise ExportError(f"{folder}: holds more than tensors and plain data, which is not read: {error}") from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError) as error:
        raise ExportError(f"{folder}: cannot be read: {error}") from error
    if not isinstance(ours, dict):
        raise ExportError(
            f"{folder}: was not saved by an engine of xtc_ds.initialize; its client state has no 'xtc_ds'"
        )
    return Checkpoint(folder, tensors, ours)


def _merged(folder: Path) -> dict[str, Tensor]:
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        merged = get_fp32_state_dict_from_zero_checkpoint(str(folder.parent), folder.name)
    return dict(merged)


@contextlib.contextmanager
def _tensors_only() -> Iterator[None]:
    """Restrict every ``torch.load``, also in other packages, to tensors, plain data and DeepSpeed's containers."""
    classes = []
    for module, names in _KNOWN:
        with contextlib.suppress(ImportError):
            found = importlib.import_module(module)
            classes += [getattr(found, name) for name in names if hasattr(found, name)]
    before = os.environ.get(_FORCE)
    os.environ[_FORCE] = "1"
    try:
        with torch.serialization.safe_globals(classes):
            yield
    finally:
        if before is None:
            del os.environ[_FORCE]
        else:
            os.environ[_FORCE] = before
