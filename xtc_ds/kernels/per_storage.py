"""A cache of weight layouts for kernels: filled on first use; entries live as long as the packed bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

__all__ = ["PerStorage", "version_of"]

Made = TypeVar("Made")


@dataclass(frozen=True)
class _Entry(Generic[Made]):
    storage: StorageWeakRef
    version: int
    made: Made


class PerStorage(Generic[Made]):
    """A thread-safe cache keyed by the storage of a tensor; an entry is dropped when the storage is freed.

    The key is the storage and not the tensor, because tied layers and graphs hold several tensors over one storage.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[tuple[Hashable, ...], _Entry[Made]] = {}

    def get(self, tensor: Tensor, kind: tuple[Hashable, ...], make: Callable[[], Made]) -> Made:
        """The result of ``make`` for this tensor and kind; computed again after an in-place change of the tensor."""
        storage = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        key = (storage.cdata, tensor.storage_offset(), *kind)
        with self._lock:
            found = self._entries.get(key)
            if found is None or found.version != version_of(tensor):
                for gone in [key for key, entry in self._entries.items() if entry.storage.expired()]:  # type: ignore[no-untyped-call]
                    del self._entries[gone]
                found = self._entries[key] = _Entry(storage, version_of(tensor), make())
        return found.made

    def __len__(self) -> int:
        return len(self._entries)


def version_of(tensor: Tensor) -> int:
    """How often the tensor was changed in place; 0 for inference tensors, which do not count versions."""
    return 0 if tensor.is_inference() else tensor._version
