"""``load_checkpoint``: load the compressed model of a DeepSpeed checkpoint without the script that trained it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xtc_ds.checkpoint.deepspeed_files import Checkpoint, find_checkpoint, read_checkpoint
from xtc_ds.compression_state import update_state
from xtc_ds.config import parse_block
from xtc_ds.distillation.projection import PROJECTION_NAME
from xtc_ds.errors import ExportError
from xtc_ds.layers import set_step
from xtc_ds.rewrite import compress

__all__ = ["load_checkpoint"]

# Parameters that only distillation needs; they are not part of the shipped model.
_TRAINING_ONLY = f"{PROJECTION_NAME}."
# Config blocks to leave out: layer reduction is already done in the checkpoint's model; distillation needs a teacher.
_DONE = ("layer_reduction", "kd")


def load_checkpoint(
    folder: str | os.PathLike[str], tag: str | None = None, model: nn.Module | str | None = None
) -> nn.Module:
    """The compressed model on the CPU, in the state in which the engine saved it; ``freeze`` or export it afterwards.

    folder: the folder given to ``engine.save_checkpoint``, the folder of one of its tags, or the output folder of
        ``launcher/train.py``; any ZeRO stage and world size. One process reads it.
    tag: which checkpoint of the folder; by default the latest.
    model: an uncompressed model of the trained structure (layers already dropped), whose weights are overwritten, or
        the folder or hub id of its Hugging Face config. Not needed if the checkpoint contains the model's config.

    Raises ExportError if the checkpoint is damaged or incomplete, or does not fit ``model``.
    """
    checkpoint = read_checkpoint(find_checkpoint(Path(folder), tag))
    told = checkpoint.ours.get("model") or {}
    # A config given by folder or id may list all layers or only the remaining ones; the plan finds out which.
    done = ("kd",) if isinstance(model, str) else _DONE
    block = {key: value for key, value in checkpoint.ours["compression_training"].items() if key not in done}
    if not isinstance(model, nn.Module):
        model = _build(checkpoint, told, model)
    if dtype := told.get("dtype"):
        model.to(getattr(torch, dtype))
    compress(model, parse_block(block))
    _fill(model, checkpoint)
    set_step(model, int(checkpoint.ours.get("step", 0)))
    update_state(model, about=told.get("about") or {})
    return model.eval()


def _build(checkpoint: Checkpoint, told: dict[str, Any], source: str | None) -> nn.Module:
    import transformers
    from transformers.initialization import no_init_weights

    content, name = told.get("config"), told.get("class")
    if source is not None:
        try:
            config = transformers.AutoConfig.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise ExportError(f"{source}: {str(error).splitlines()[0]}") from error
        name = name or (config.architectures or [None])[0]
    elif isinstance(content, dict) and "model_type" in content:
        config = transformers.AutoConfig.for_model(**content)
    else:
        raise ExportError(
            f"{checkpoint.folder}: does not hold the config of a Hugging Face model; give the folder or hub id of one "
            "(--model), or in Python the model itself: xtc_ds.load_checkpoint(folder, model=model)"
        )
    model_class = getattr(transformers, str(name), None)
    if not hasattr(model_class, "_from_config"):
        raise ExportError(f"{checkpoint.folder}: transformers has no class '{name}'; give the model itself in Python")
    with no_init_weights():
        model: nn.Module = model_class._from_config(config)  # type: ignore[union-attr]
    return model


def _fill(model: nn.Module, checkpoint: Checkpoint) -> None:
    tensors = {name: value for name, value in checkpoint.tensors.items() if not name.startswith(_TRAINING_ONLY)}
    own = model.state_dict(keep_vars=True)
    filled = {id(own[name]) for name in tensors if name in own}
    missing = [name for name in own if name not in tensors and id(own[name]) not in filled]
    unexpected = [name for name in tensors if name not in own]
    if missing or unexpected:
        raise ExportError(
            f"{checkpoint.folder}: does not fit the model ({type(model).__name__}): lacks {missing[:5]}, has "
            f"{unexpected[:5]} beside it"
        )
    try:
        model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:  # shapes differ
        raise ExportError(f"{checkpoint.folder}: {error}") from error
