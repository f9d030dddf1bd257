"""Weights that are products of smaller ones: low rank, tensor train, Tucker core with its factors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from xtc_ds.storage.base import StoredPart, StoredWeight
from xtc_ds.storage.elementwise import read_shape
from xtc_ds.storage.registry import weight_from_json, weight_to_json

__all__ = ["Factored"]


@dataclass(frozen=True)
class Factored(StoredWeight):
    """Several stored weights (factors) that are contracted to one.

    equation: for ``torch.einsum``, with one term per factor; the result has as many values as ``shape`` (outputs
        first) and is reshaped to it, row-major. ``"or,ri->oi"`` is a low-rank weight.

    Raises ValueError if the factors do not contract to the shape.
    """

    kind: ClassVar[str] = "factored"
    factors: tuple[StoredWeight, ...]
    equation: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        terms, arrow, result = self.equation.partition("->")
        sizes: dict[str, int] = {}
        shapes = [factor.shape for factor in self.factors]
        letters = terms.split(",")
        known = bool(arrow) and [len(term) for term in letters] == [len(shape) for shape in shapes]
        pairs = [pair for term, shape in zip(letters, shapes, strict=False) for pair in zip(term, shape, strict=False)]
        same = all(letter.isalpha() and sizes.setdefault(letter, size) == size for letter, size in pairs)
        whole = len(set(result)) == len(result) and set(result) <= sizes.keys()
        if not (known and same and whole) or math.prod(sizes[x] for x in result) != math.prod(self.shape):
            raise ValueError(f"{self.equation!r} makes no weight of shape {self.shape} of factors of shapes {shapes}")

    def parts(self) -> tuple[StoredPart, ...]:
        return tuple(
            replace(part, name=_numbered(part.name, index))
            for index, factor in enumerate(self.factors)
            for part in factor.parts()
        )

    def decode(self, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
        factors = [
            factor.decode({part.name: tensors[_numbered(part.name, index)] for part in factor.parts()})
            for index, factor in enumerate(self.factors)
        ]
        return torch.einsum(self.equation, *factors).reshape(self.shape).to(dtype)

    def check(self, name: str, tensor: Tensor) -> None:
        for index, factor in enumerate(self.factors):
            for part in factor.parts():
                if _numbered(part.name, index) == name:
                    factor.check(part.name, tensor)

    @property
    def version(self) -> int:
        return 4

    def to_json(self) -> dict[str, Any]:
        factors = [weight_to_json(factor) for factor in self.factors]
        return {"equation": self.equation, "factors": factors, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Factored:
        factors = tuple(weight_from_json(factor) for factor in content["factors"])
        return cls(factors, str(content["equation"]), read_shape(content))


def _numbered(name: str, index: int) -> str:
    """The name of a factor's part in the whole weight: ``weight_scale`` of factor 1 becomes ``weight_1_scale``."""
    return f"weight_{index}{name.removeprefix('weight')}"
