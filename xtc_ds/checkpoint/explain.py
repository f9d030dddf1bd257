"""Which kernels would run a packed checkpoint, found from its config alone."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from xtc_ds.checkpoint.load import model_class_of, read_quantization_config
from xtc_ds.checkpoint.shell import build_frozen
from xtc_ds.errors import ExportError
from xtc_ds.kernels.backend import Inputs
from xtc_ds.runtime.choose import check_runtime
from xtc_ds.runtime.explain import KernelUse, explain_kernels

__all__ = ["explain_folder"]


def explain_folder(
    folder: str | os.PathLike[str],
    device: str | None = None,
    dtype: torch.dtype = torch.float32,
    runtime: str = "packed",
) -> list[KernelUse]:
    """Which kernel backend would run each layer of a packed checkpoint on this machine, and why faster ones would not.

    folder: the checkpoint's folder, or a file in it. device: "cpu" or "cuda"; None: a GPU if there is one. dtype: dtype
    of the model's float tensors. runtime: see ``set_runtime``. Raises ExportError if the folder holds no packed
    checkpoint, or for an unknown device or runtime.
    """
    check_runtime(runtime)
    folder = Path(folder)
    folder = folder.parent if folder.is_file() else folder
    specs = read_quantization_config(folder).specs()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        inputs = Inputs(torch.device(device), dtype)
    except RuntimeError as error:
        raise ExportError(f"device: found {device!r}, expected cpu or cuda") from error
    return explain_kernels(specs, inputs, runtime, _empty_model(folder) if runtime == "fused" else None)


def _empty_model(folder: Path) -> nn.Module | None:
    """The frozen model on the meta device; None if transformers has no class for it."""
    try:
        model_class = model_class_of(folder)
    except ExportError:
        return None
    with torch.device("meta"):
        model: nn.Module = model_class(model_class.config_class.from_pretrained(folder))
    build_frozen(model, read_quantization_config(folder))
    return model
