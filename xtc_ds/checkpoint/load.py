"""Load packed checkpoints."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xtc_ds.checkpoint.fill import fill
from xtc_ds.checkpoint.quantization_config import QUANT_METHOD, XtcQuantizationConfig
from xtc_ds.checkpoint.safetensors_file import replace_text
from xtc_ds.checkpoint.shards import check_index, weight_files
from xtc_ds.checkpoint.shell import build_frozen, mark_frozen, tie_packed_layers
from xtc_ds.checkpoint.structure import check_tensors
from xtc_ds.checkpoint.verify import CONFIG_CHECKSUM, config_checksum, read_headers, verify_files
from xtc_ds.errors import ExportError, XtcError
from xtc_ds.origins import hub_id
from xtc_ds.runtime.choose import check_runtime, set_runtime

__all__ = ["accept_config", "load", "load_into", "model_class_of", "read_quantization_config"]


def load(folder: str | os.PathLike[str], runtime: str = "packed", **kwargs: Any) -> nn.Module:
    """Load a packed checkpoint: returns the model, of the class it was exported from, in evaluation mode.

    folder: a local folder, or the id of a repository on the Hugging Face hub ("user/name"). For the latter, ``kwargs``
        may hold ``revision``, ``token`` and ``cache_dir``.
    runtime: see ``set_runtime``.

    ``kwargs`` are passed to the class's ``from_pretrained``. Raises ExportError if the folder holds no packed
    checkpoint, or a damaged one.
    """
    check_runtime(runtime)
    folder = _local(folder, kwargs)
    config = read_quantization_config(folder)
    config.specs()
    weight_files(folder)
    model_class = model_class_of(folder)
    try:
        model: nn.Module = model_class.from_pretrained(folder, **kwargs)
    except XtcError:
        raise
    except Exception as error:  # a damaged config.json fails anywhere in transformers
        raise ExportError(f"{folder}: cannot be loaded: {error!r}") from error
    set_runtime(model, runtime)
    return model


def model_class_of(folder: Path) -> Any:
    """The transformers class that a folder's model was exported from. Raises ExportError if transformers lacks it."""
    import transformers

    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = content.get("architectures")
    name = names[0] if isinstance(names, list) and names else ""
    model_class = getattr(transformers, str(name), None)
    if not hasattr(model_class, "from_pretrained"):
        raise ExportError(f"{folder}: transformers has no class '{name}'; use load_into(model, folder)")
    return model_class


def load_into(model: nn.Module, folder: str | os.PathLike[str], runtime: str = "packed") -> nn.Module:
    """Load a packed checkpoint into an uncompressed model of the same structure (any nn.Module), in place.

    model: on any device; parameters on the meta device are allocated on the CPU.
    runtime: see ``set_runtime``.

    Returns ``model`` in evaluation mode. Raises ExportError if the checkpoint does not fit the model or is damaged.
    """
    check_runtime(runtime)
    folder = Path(folder)
    config = read_quantization_config(folder)
    headers = read_headers(weight_files(folder), config)
    check_index(headers)
    devices = _devices(model, list(config.specs()))
    build_frozen(model, config)
    check_tensors(model, headers, config)
    verify_files(headers, config)
    for name in config.specs():
        model.get_submodule(name).to_empty(device=devices[name])
    tie_packed_layers(model, config)
    fill(model, headers)
    mark_frozen(model, config)
    set_runtime(model, runtime)
    return model.eval()


def _devices(model: nn.Module, names: list[str]) -> dict[str, torch.device]:
    """The device of each module's weight; the CPU for modules without a weight or with one on the meta device."""
    weights = {name: getattr(module, "weight", None) for name, module in model.named_modules()}
    found = {name: getattr(weights.get(name), "device", None) for name in names}
    cpu = torch.device("cpu")
    return {name: cpu if device is None or device.type == "meta" else device for name, device in found.items()}


def accept_config(folder: str | os.PathLike[str]) -> None:
    """Accept a deliberate change of ``config.json``: update its checksum in the headers of the weight files."""
    folder = Path(folder)
    checksum = config_checksum(folder)
    for header in read_headers(weight_files(folder), read_quantization_config(folder)):
        old = header.metadata.get(CONFIG_CHECKSUM)
        if old is not None:
            replace_text(header.file, f'"{CONFIG_CHECKSUM}":"{old}"', f'"{CONFIG_CHECKSUM}":"{checksum}"')


def _local(folder: str | os.PathLike[str], kwargs: dict[str, Any]) -> Path:
    repository = hub_id(folder)
    if repository is None:
        return Path(folder)
    from huggingface_hub import snapshot_download

    options = {key: kwargs.pop(key) for key in ("revision", "token", "cache_dir") if key in kwargs}
    try:
        return Path(snapshot_download(repository, allow_patterns=["*.json", "*.safetensors"], **options))
    except Exception as error:  # many kinds, all of them about the way to the hub
        raise ExportError(f"{folder}: no folder here, and the hub does not give it: {error}") from error


def read_quantization_config(folder: str | os.PathLike[str]) -> XtcQuantizationConfig:
    """Read ``quantization_config`` from the folder's config.json. Raises ExportError if it is no packed checkpoint."""
    file = Path(folder) / "config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"{file}: cannot be read: {error}") from error
    section = content.get("quantization_config") if isinstance(content, dict) else None
    if not isinstance(section, dict) or section.get("quant_method") != QUANT_METHOD:
        raise ExportError(f"{file}: has no quantization_config of method '{QUANT_METHOD}'; not a packed checkpoint")
    return XtcQuantizationConfig(**{key: value for key, value in section.items() if key != "quant_method"})
