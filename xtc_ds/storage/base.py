"""The interface of stored weights: how the weight of one layer is represented in memory and in a file.

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

    name: name of the layer's tensor, ``weight`` or ``weight_<part>``.
    shape: shape in memory and in the file.
    dtype: dtype in memory; None for the layer's own float dtype. A file rounds floats to the file's float dtype.
    values: whether the tensor holds the weights themselves (floats or codes) and not additional parts such as scales.
    codes: the format and the number of packed codes; None for other tensors.
    bank: shared name of the tensor if several modules own it together; None if one module owns it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype | None
    values: bool = False
    codes: tuple[WeightFormat, int] | None = None
    bank: str | None = None

    @property
    def is_float(self) -> bool:
        """Whether the file stores the tensor in the file's float dtype."""
        return self.dtype is None or self.dtype.is_floating_point

    def bytes(self, float_bytes: int) -> int:
        """Size in bytes in a file whose floats take ``float_bytes`` bytes each."""
        item = float_bytes if self.dtype is None or self.is_float else self.dtype.itemsize
        return math.prod(self.shape) * item

    def empty(self, float_dtype: torch.dtype, device: torch.device | str | None) -> Tensor:
        """An uninitialized tensor for this part."""
        return torch.empty(self.shape, dtype=self.dtype or float_dtype, device=device)


class StoredWeight(ABC):
    """One way to store a weight of ``shape`` (outputs first). Instances are immutable and compare by value."""

    #: name in files, unique in the registry
    kind: ClassVar[str]
    shape: tuple[int, ...]

    @abstractmethod
    def parts(self) -> tuple[StoredPart, ...]:
        """The tensors that hold the weight."""

    @abstractmethod
    def decode(self, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
        """The decoded weight in ``shape``, computed in float32. tensors: by the names of ``parts``."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """JSON-compatible data from which ``from_json`` builds an equal object."""

    @classmethod
    @abstractmethod
    def from_json(cls, content: Mapping[str, Any]) -> StoredWeight:
        """The inverse of ``to_json``. Raises KeyError, TypeError, ValueError or FormatError for invalid content."""

    @property
    @abstractmethod
    def version(self) -> int:
        """The first version of the file format that supports this weight."""

    def check(self, name: str, tensor: Tensor) -> None:
        """Raise FormatError if the tensor of part ``name`` has invalid values; codes are checked elsewhere."""
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise FormatError("holds NaN or infinite values")

    def part(self, name: str) -> StoredPart | None:
        """The part called ``name``; None if there is none."""
        return next((part for part in self.parts() if part.name == name), None)

    def packed_bytes(self, float_bytes: int) -> int:
        """Bytes of all parts in a file whose floats take ``float_bytes`` bytes each; shared parts count fully."""
        return sum(part.bytes(float_bytes) for part in self.parts())


def whole_number(value: Any, least: int) -> int:
    """Return ``value`` if it is an int of at least ``least``; else raise ValueError. True and 1.0 are not accepted."""
    if type(value) is not int or value < least:
        raise ValueError(f"{value!r} is not a whole number of {least} or more")
    return value
