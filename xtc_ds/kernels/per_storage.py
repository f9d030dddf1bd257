"""Layouts of packed weights for kernels: made on first use, kept for as long as the packed bytes live."""

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
    """What was made of tensors. Entries go with the storage of their tensor; many threads may ask.

    By storage and not by tensor, because tied layers and graphs hold aliases.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[tuple[Hashable, ...], _Entry[Made]] = {}

    def get(self, tensor: Tensor, kind: tuple[Hashable, ...], make: Callable[[], Made]) -> Made:
        """What ``make`` gave for this tensor and kind; made anew after a change in place that counts a version."""
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
    """How often the tensor was changed in place; inference tensors do not count."""
    return 0 if tensor.is_inference() else tensor._version
