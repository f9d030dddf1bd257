"""Reading packed checkpoints back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from xtc_ds.errors import ExportError
from xtc_ds.export.hf_quantizer import build_frozen, mark_frozen, tie_packed_layers
from xtc_ds.export.quantization_config import QUANT_METHOD, XtcQuantizationConfig

__all__ = ["load", "load_into", "read_quantization_config"]


def load(folder: str | os.PathLike[str], **kwargs: Any) -> nn.Module:
    """The model of a packed checkpoint, in evaluation mode, of the class that it was exported from.

    ``kwargs`` go to that class's ``from_pretrained``. Raises ExportError if the folder holds none.
    """
    import transformers

    read_quantization_config(folder)
    _check_file(folder)
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    name = (config.get("architectures") or [""])[0]
    model_class = getattr(transformers, name, None)
    if model_class is None:
        raise ExportError(f"{folder}: transformers has no class '{name}'; use load_into(model, folder)")
    model: nn.Module = model_class.from_pretrained(folder, **kwargs)
    return model


def load_into(model: nn.Module, folder: str | os.PathLike[str]) -> nn.Module:
    """Fill a plain model of the same structure (any nn.Module) from a packed checkpoint, in place.

    Raises ExportError where structure or file do not fit.
    """
    config = read_quantization_config(folder)
    file = _check_file(folder)
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{file}: cannot be read: {error}") from error
    build_frozen(model, config)
    for name in config.specs():
        model.get_submodule(name).to_empty(device="cpu")
    tie_packed_layers(model, config)
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:  # shapes
        raise ExportError(f"{folder}: {error}") from error
    # Shared tensors are stored under one of their names.
    own = model.state_dict(keep_vars=True)
    filled = {id(own[name]) for name in tensors if name in own}
    missing = [name for name in missing if id(own[name]) not in filled]
    if missing or unexpected:
        raise ExportError(f"{folder}: missing tensors {missing[:5]}, unexpected {unexpected[:5]}")
    mark_frozen(model, config)
    return model.eval()


def _check_file(folder: str | os.PathLike[str]) -> Path:
    file = Path(folder) / "model.safetensors"
    if not file.is_file():
        raise ExportError(f"{folder}: has no model.safetensors; export the model again")
    return file


def read_quantization_config(folder: str | os.PathLike[str]) -> XtcQuantizationConfig:
    """The ``quantization_config`` of a folder. Raises ExportError if it is not a packed checkpoint."""
    file = Path(folder) / "config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{file}: cannot be read: {error}") from error
    section = content.get("quantization_config") if isinstance(content, dict) else None
    if not isinstance(section, dict) or section.get("quant_method") != QUANT_METHOD:
        raise ExportError(f"{file}: has no quantization_config of method '{QUANT_METHOD}'; not a packed checkpoint")
    return XtcQuantizationConfig(**{key: value for key, value in section.items() if key != "quant_method"})
