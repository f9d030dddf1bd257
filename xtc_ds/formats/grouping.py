"""Which weights share a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from xtc_ds.errors import FormatError

__all__ = ["Grouping"]


@dataclass(frozen=True)
class Grouping:
    """Equal contiguous groups of the row-major flattened weight.

    kind: "tensor" one group; "row" one per output feature (per token of an embedding);
        "group" as many as ``groups`` (DeepSpeed's ``quantize_groups``).
    """

    kind: Literal["tensor", "row", "group"] = "tensor"
    groups: int = 1

    def count(self, shape: tuple[int, ...]) -> int:
        """Number of groups in a weight of that shape. Raises FormatError if they are not equal."""
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
        """The weight as (groups, weights in a group), without a copy where it is contiguous."""
        return w_OI.reshape(self.count(tuple(w_OI.shape)), -1)

    @property
    def per_row(self) -> bool:
        """Whether every output row has one scale, so that a matrix product can be rescaled after the sum."""
        return self.kind in ("tensor", "row")
