"""What a stored weight is: how the weight of one layer lies in memory and in a file.

Shape legend: O and I = output and input features or channels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from xtc_ds.errors import FormatError
from xtc_ds.formats import WeightFormat

__all__ = ["StoredPart", "StoredWeight", "whole_number"]


@dataclass(frozen=True)
class StoredPart:
    """One tensor of a stored weight.

    name: of the layer's tensor, ``weight`` or ``weight_<part>``.
    shape: in memory and in the file.
    dtype: in memory; None: the layer's own float type. A file rounds floats to the type of its floats.
    values: whether it holds the weights themselves (floats or codes), and not what lies beside them.
    codes: the format of packed codes, and how many there are; None for other tensors.
    bank: what modules that own the tensor together call it; None where a module has it for itself.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype | None
    values: bool = False
    codes: tuple[WeightFormat, int] | None = None
    bank: str | None = None

    @property
    def is_float(self) -> bool:
        """Whether the file stores it in the type of its floats."""
        return self.dtype is None or self.dtype.is_floating_point

    def bytes(self, float_bytes: int) -> int:
        """Bytes in a file whose floats take ``float_bytes`` each."""
        item = float_bytes if self.dtype is None or self.is_float else self.dtype.itemsize
        return math.prod(self.shape) * item

    def empty(self, float_dtype: torch.dtype, device: torch.device | str | None) -> Tensor:
        """A tensor without values."""
        return torch.empty(self.shape, dtype=self.dtype or float_dtype, device=device)


class StoredWeight(ABC):
    """One way to store a weight of ``shape`` (outputs first). Instances are immutable and compare by value."""

    #: as the file calls it, unique in the registry
    kind: ClassVar[str]
    shape: tuple[int, ...]

    @abstractmethod
    def parts(self) -> tuple[StoredPart, ...]:
        """The tensors that hold the weight."""

    @abstractmethod
    def decode(self, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight in its shape, computed in float32. tensors: by the names of ``parts``."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain data, from which the registry's reader builds an equal object."""

    @classmethod
    @abstractmethod
    def from_json(cls, content: Mapping[str, Any]) -> StoredWeight:
        """The inverse. Raises KeyError, TypeError, ValueError or FormatError where it is not understood."""

    @property
    @abstractmethod
    def version(self) -> int:
        """The first version of the file format that knows such a weight."""

    def check(self, name: str, tensor: Tensor) -> None:
        """Raise FormatError where the tensor of part ``name`` stands for no weight; codes are checked elsewhere."""
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise FormatError("holds NaN or infinite values")

    def part(self, name: str) -> StoredPart | None:
        """The part of that name."""
        return next((part for part in self.parts() if part.name == name), None)

    def packed_bytes(self, float_bytes: int) -> int:
        """Bytes of all parts in a file whose floats take ``float_bytes`` each; shared ones as if they were its own."""
        return sum(part.bytes(float_bytes) for part in self.parts())


def whole_number(value: Any, least: int) -> int:
    """``value`` if it is one of ``least`` or more; True and 1.0 are none. Raises ValueError."""
    if type(value) is not int or value < least:
        raise ValueError(f"{value!r} is not a whole number of {least} or more")
    return value
