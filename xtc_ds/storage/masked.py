"""Weights stored in full, with a mask that sets some of them to zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from xtc_ds.formats.bits import check_padding, pack_bits, packed_size, unpack_bits
from xtc_ds.storage.base import StoredPart, StoredWeight
from xtc_ds.storage.elementwise import Coded, Elementwise

__all__ = ["MASK", "Masked"]

#: name of the tensor that says which weights are not pruned, in ``Masked`` and in ``Sparse``
MASK = "weight_mask"


@dataclass(frozen=True)
class Masked(StoredWeight):
    """``around`` with a mask of one bit per weight; where the bit is 0 the weight is 0, whatever its element is."""

    kind: ClassVar[str] = "masked"
    around: Elementwise

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.around.shape

    def parts(self) -> tuple[StoredPart, ...]:
        mask = StoredPart(MASK, (packed_size(math.prod(self.shape), 1),), torch.uint8)
        return (*self.around.parts(), mask)

    def mask(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """True for weights that are not pruned, bool, in the weight's shape."""
        return unpack_bits(tensors[MASK], 1, math.prod(self.shape)).reshape(self.shape).bool()

    def decode(self, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
        return self.around.decode(tensors, dtype).masked_fill(~self.mask(tensors), 0)

    def pack(self, elements: Tensor, beside: Mapping[str, Tensor], mask: Tensor | None = None) -> dict[str, Tensor]:
        """All tensors by name. mask: bool, in the weight's shape, True for weights that are not pruned."""
        assert mask is not None
        bits = pack_bits(mask.reshape(-1).to(torch.uint8), 1)
        return {**self.around.pack(elements, beside), MASK: bits}

    def check(self, name: str, tensor: Tensor) -> None:
        if name == MASK:
            check_padding(int(tensor[-1]), 1, math.prod(self.shape))
        else:
            self.around.check(name, tensor)

    @property
    def version(self) -> int:
        return max(2, self.around.version)

    def to_json(self) -> dict[str, Any]:
        return {"masked": True, **self.around.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Masked:
        around = Coded.from_json(content)
        if not around.needs_mask:
            raise ValueError(f"masked True of format {content['format']!r}")
        return cls(around)
