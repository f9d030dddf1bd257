"""Check that a packed checkpoint has the tensors that a model needs, before any is read."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import Tensor, nn

from xtc_ds.checkpoint.quantization_config import XtcQuantizationConfig
from xtc_ds.checkpoint.safetensors_file import DTYPES, StoredHeader
from xtc_ds.errors import ExportError

__all__ = ["check_tensors"]


def check_tensors(model: nn.Module, headers: Iterable[StoredHeader], config: XtcQuantizationConfig) -> None:
    """Raise ExportError, with the names, if tensors are missing, unexpected, or of another shape or dtype.

    model: the empty shell to be filled. headers: those of all files together.
    """
    headers = list(headers)
    own = model.state_dict(keep_vars=True)
    found = {name for header in headers for name in header.tensors}
    where = headers[0].file.parent if headers else "the checkpoint"
    if unexpected := [name for name in found - own.keys() if not _ignored(model, name, "unexpected")]:
        raise ExportError(f"{where}: holds {_names(unexpected)}, which the model ({type(model).__name__}) lacks")
    if missing := [name for name in _not_shared(model, own, found, config) if not _ignored(model, name, "missing")]:
        raise ExportError(f"{where}: missing tensors: {_names(missing)}")
    for header in headers:
        for name, stored in header.tensors.items():
            if name in own:
                _check_fit(header, name, own[name], DTYPES[stored.dtype], stored.shape)


def _not_shared(model: nn.Module, own: dict[str, Tensor], found: set[str], config: XtcQuantizationConfig) -> list[str]:
    """Names of tensors that no file holds, neither directly nor as another tensor that shares their memory."""
    twins = set(config.shared_tensors())
    # Hugging Face models tie their weights only after loading.
    twins |= {name for name, owner in getattr(model, "all_tied_weights_keys", {}).items() if owner in found}
    filled = {id(own[name]) for name in found & own.keys()}
    return [name for name in own if name not in found | twins and id(own[name]) not in filled]


def _ignored(model: nn.Module, name: str, which: str) -> bool:
    patterns = getattr(model, f"_keys_to_ignore_on_load_{which}", None) or ()
    return any(re.search(pattern, name) for pattern in patterns)


def _check_fit(header: StoredHeader, name: str, own: Tensor, dtype: object, shape: tuple[int, ...]) -> None:
    if tuple(own.shape) != shape:
        raise ExportError(f"{header.file}: {name}: has shape {shape}; the model's is {tuple(own.shape)}")
    floats = own.is_floating_point() and getattr(dtype, "is_floating_point", False)
    if not floats and own.dtype != dtype:
        raise ExportError(f"{header.file}: {name}: holds {dtype}; the model takes {own.dtype}")


def _names(names: list[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
