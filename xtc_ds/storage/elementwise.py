"""Weights stored with one element for each weight: a float, or a code of a format."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from xtc_ds.formats import Encoded, Grouping, WeightFormat, get_format
from xtc_ds.storage.base import StoredPart, StoredWeight, whole_number

__all__ = ["Coded", "Dense", "Elementwise", "read_shape"]

_GROUPINGS = ("tensor", "row", "group")
_LARGEST_STORED_BITS = 8


class Elementwise(StoredWeight):
    """Base of weights that ``Sparse`` and ``Masked`` can wrap. An element is a float or a code."""

    @abstractmethod
    def elements(self, count: int) -> StoredPart:
        """Description of the tensor ``weight`` that holds ``count`` elements."""

    @abstractmethod
    def read(self, packed: Tensor, count: int) -> Tensor:
        """The ``count`` elements in the tensor ``packed``, flat."""

    @abstractmethod
    def write(self, elements: Tensor) -> Tensor:
        """The inverse of ``read``: elements of any shape as the tensor ``weight``."""

    @abstractmethod
    def decode_elements(self, elements: Tensor, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        """The weight decoded from ``elements``, which have its shape. tensors: all parts by name."""

    def beside(self) -> tuple[StoredPart, ...]:
        """The parts other than the elements."""
        return ()

    @property
    def needs_mask(self) -> bool:
        """Whether no element represents zero, so that pruned weights need a mask."""
        return False

    def pack(self, elements: Tensor, beside: Mapping[str, Tensor], mask: Tensor | None = None) -> dict[str, Tensor]:
        """All tensors by name. elements: in the weight's shape. beside: the other parts by name, in their shapes."""
        return {"weight": self.write(elements), **beside}

    def parts(self) -> tuple[StoredPart, ...]:
        return (self.elements(math.prod(self.shape)), *self.beside())

    def decode(self, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
        elements = self.read(tensors["weight"], math.prod(self.shape)).reshape(self.shape)
        return self.decode_elements(elements, tensors, dtype)


@dataclass(frozen=True)
class Dense(Elementwise):
    """A weight stored as floats, in its shape."""

    kind: ClassVar[str] = "dense"
    shape: tuple[int, ...]

    def elements(self, count: int) -> StoredPart:
        return StoredPart("weight", (count,), None, values=True)

    def parts(self) -> tuple[StoredPart, ...]:
        return (StoredPart("weight", self.shape, None, values=True),)

    def read(self, packed: Tensor, count: int) -> Tensor:
        return packed.reshape(-1)

    def write(self, elements: Tensor) -> Tensor:
        return elements

    def decode_elements(self, elements: Tensor, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        return elements.to(dtype)

    def check(self, name: str, tensor: Tensor) -> None:
        """Accepts any value, also NaN and infinity, like any file of floats."""

    @property
    def version(self) -> int:
        return 1

    def to_json(self) -> dict[str, Any]:
        return {"format": None, "grouping": "tensor", "groups": 1, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Dense:
        _grouping(content)
        return cls(read_shape(content))


@dataclass(frozen=True)
class Coded(Elementwise):
    """A weight stored as codes of a format, with the format's parts (scales, ...) for each group of weights."""

    kind: ClassVar[str] = "coded"
    format: WeightFormat
    grouping: Grouping
    shape: tuple[int, ...]

    @property
    def groups(self) -> int:
        """Number of groups."""
        return self.grouping.count(self.shape)

    @property
    def needs_mask(self) -> bool:
        return self.format.zero_format is None

    def elements(self, count: int) -> StoredPart:
        shape = (self.format.packed_bytes(count),)
        return StoredPart("weight", shape, torch.uint8, values=True, codes=(self.format, count))

    def beside(self) -> tuple[StoredPart, ...]:
        groups = self.groups
        return tuple(StoredPart(f"weight_{p.name}", p.shape(groups), torch.float32) for p in self.format.parts)

    def read(self, packed: Tensor, count: int) -> Tensor:
        return self.format.unpack(packed, count)

    def write(self, elements: Tensor) -> Tensor:
        return self.format.pack(elements)

    def format_parts(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parts by the format's names, float32 (G, 1) or (G, size), as ``format.decode`` expects them."""
        return {p.name: p.per_group(tensors[f"weight_{p.name}"].float()) for p in self.format.parts}

    def decode_elements(self, elements: Tensor, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        encoded = Encoded(self.grouping.split(elements), self.format_parts(tensors), self.format)
        return encoded.decode(dtype).reshape(self.shape)

    @property
    def version(self) -> int:
        # Earlier versions support only scales and zero offsets.
        return 1 if self.format.affine else 4

    def to_json(self) -> dict[str, Any]:
        return {
            "format": self.format.name,
            "grouping": self.grouping.kind,
            "groups": self.grouping.groups,
            "shape": list(self.shape),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Coded:
        weight_format = get_format(str(content["format"]))
        if weight_format.bits > _LARGEST_STORED_BITS:
            raise ValueError(f"format {weight_format.name!r} is for training alone")
        coded = cls(weight_format, _grouping(content), read_shape(content))
        coded.grouping.count(coded.shape)
        return coded


def _grouping(content: Mapping[str, Any]) -> Grouping:
    kind = content["grouping"]
    if kind not in _GROUPINGS:
        raise ValueError(f"grouping {kind!r}")
    return Grouping(kind, whole_number(content["groups"], 1))


def read_shape(content: Mapping[str, Any]) -> tuple[int, ...]:
    """The ``shape`` of an entry. Raises ValueError if it is invalid."""
    return tuple(whole_number(size, 1) for size in content["shape"])
