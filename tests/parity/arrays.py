"""Many small arrays in one small file: all values flat, equal arrays once, and an index beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Arrays", "as_array", "load_arrays", "save_arrays"]

Arrays = dict[str, NDArray[Any]]


def as_array(tensor: Tensor) -> NDArray[Any]:
    """float32 for 16-bit floats too: every value of theirs is one of float32."""
    tensor = tensor.detach()
    wide = tensor.float() if tensor.is_floating_point() else tensor
    return np.ascontiguousarray(wide.numpy())


def save_arrays(path: Path, arrays: Arrays) -> None:
    """Write ``arrays`` to ``path`` (.npz), bit for bit."""
    parts: dict[str, list[NDArray[Any]]] = {}
    lengths: dict[str, int] = {}
    seen: dict[tuple[str, bytes], int] = {}
    index: dict[str, tuple[str, int, tuple[int, ...]]] = {}
    for name, array in arrays.items():
        kind = array.dtype.name
        content = (kind, array.tobytes())
        if content not in seen:
            seen[content] = lengths.get(kind, 0)
            parts.setdefault(kind, []).append(array.reshape(-1))
            lengths[kind] = seen[content] + array.size
        index[name] = (kind, seen[content], array.shape)
    listing = np.frombuffer(json.dumps(index, separators=(",", ":")).encode(), dtype=np.uint8)
    flat = {kind: np.concatenate(pieces) for kind, pieces in parts.items()}
    np.savez_compressed(path, allow_pickle=False, index=listing, **flat)


def load_arrays(path: Path) -> Arrays:
    """The inverse of ``save_arrays``."""
    with np.load(path, allow_pickle=False) as stored:
        index = json.loads(stored["index"].tobytes())
        flat = {kind: stored[kind] for kind in stored.files if kind != "index"}
    result: Arrays = {}
    for name, (kind, start, shape) in index.items():
        size = int(np.prod(shape))
        result[name] = flat[kind][start : start + size].reshape(shape)
    return result
