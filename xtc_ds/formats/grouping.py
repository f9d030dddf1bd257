"""``Grouping``: which weights share a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from xtc_ds.errors import FormatError

__all__ = ["Grouping"]


@dataclass(frozen=True)
class Grouping:
    """Partition of the row-major flattened weight into contiguous groups of equal size.

    kind: "tensor": a single group; "row": one per output feature (per row of an embedding table);
        "group": ``groups`` groups (DeepSpeed's ``quantize_groups``).
    """

    kind: Literal["tensor", "row", "group"] = "tensor"
    groups: int = 1

    def count(self, shape: tuple[int, ...]) -> int:
        """Number of groups in a weight of ``shape``. Raises FormatError if they would not have equal sizes."""
        if self.kind == "tensor":
            return 1
        if self.kind == "row":
            return shape[0]
        numel = 1
        for size in shape:
            numel *= size
        if self.groups < 1 or numel % self.groups:
            raise FormatError(f"{self.groups} groups do not divide the {numel} weights of shape {tuple(shape)}")
        return self.groups

    def split(self, w_OI: Tensor) -> Tensor:
        """The weight reshaped to (groups, weights in a group), without a copy if it is contiguous."""
        return w_OI.reshape(self.count(tuple(w_OI.shape)), -1)

    @property
    def per_row(self) -> bool:
        """Whether each output row has a single scale, so that a matrix product can be rescaled after the sum."""
        return self.kind in ("tensor", "row")
