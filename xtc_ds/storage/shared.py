"""Weights that are views into a bank of tensors which several modules own together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from xtc_ds.storage.base import StoredPart, StoredWeight, whole_number
from xtc_ds.storage.registry import weight_from_json, weight_to_json

__all__ = ["Shared"]


@dataclass(frozen=True)
class Shared(StoredWeight):
    """A weight whose tensors, those of ``around``, are shared by all modules with the same ``bank`` name.

    A file stores them once, with the first of these modules.
    index: the weight is this entry along the first dimension of ``around``; None for the whole.

    Raises ValueError if there is no such entry.
    """

    kind: ClassVar[str] = "shared"
    bank: str
    around: StoredWeight
    index: int | None = None

    def __post_init__(self) -> None:
        if self.index is not None and not 0 <= self.index < self.around.shape[0]:
            raise ValueError(f"entry {self.index} of a bank of shape {self.around.shape}")

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.around.shape if self.index is None else self.around.shape[1:]

    def parts(self) -> tuple[StoredPart, ...]:
        return tuple(replace(part, bank=f"{self.bank}.{part.name}") for part in self.around.parts())

    def decode(self, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
        whole = self.around.decode(tensors, dtype)
        return whole if self.index is None else whole[self.index]

    def check(self, name: str, tensor: Tensor) -> None:
        self.around.check(name, tensor)

    @property
    def version(self) -> int:
        return 4

    def to_json(self) -> dict[str, Any]:
        return {"bank": self.bank, "around": weight_to_json(self.around), "index": self.index}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Shared:
        index = content["index"]
        around = weight_from_json(content["around"])
        return cls(str(content["bank"]), around, None if index is None else whole_number(index, 0))
