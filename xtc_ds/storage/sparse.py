"""Sparse weights: only the kept elements are stored, together with their positions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from xtc_ds.formats import get_format
from xtc_ds.storage.base import StoredPart, StoredWeight, whole_number
from xtc_ds.storage.elementwise import Coded, Dense, Elementwise
from xtc_ds.storage.masked import MASK, Masked
from xtc_ds.storage.places import MOST_COMBINATIONS, Places

__all__ = ["Sparse", "pruned_weight"]


@dataclass(frozen=True)
class Sparse(StoredWeight):
    """The elements of ``around`` that are not pruned, and their positions.

    kept_as: how the kept elements are stored. It is ``around`` itself, or codes of a smaller format without the zero
        that ``around`` has only for pruned weights, such as binary signs instead of ternary codes.
    """

    kind: ClassVar[str] = "sparse"
    around: Elementwise
    places: Places
    kept_as: Elementwise

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.around.shape

    def parts(self) -> tuple[StoredPart, ...]:
        places = StoredPart(MASK, (self.places.bytes(math.prod(self.shape)),), torch.uint8)
        return (self.kept_as.elements(self.places.kept), *self.around.beside(), places)

    def mask(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """True for weights that are not pruned, bool, in the weight's shape."""
        return self.places.unpack(tensors[MASK], self.shape)

    def elements(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The elements in the weight's shape, with 0 for pruned weights."""
        kept = self.kept_as.read(tensors["weight"], self.places.kept)
        return self.places.scattered(kept, self.mask(tensors))

    def decode(self, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
        w_OI = self.around.decode_elements(self.elements(tensors), tensors, dtype)
        return w_OI.masked_fill(~self.mask(tensors), 0) if self.around.needs_mask else w_OI

    def pack(self, elements: Tensor, beside: Mapping[str, Tensor], mask: Tensor | None = None) -> dict[str, Tensor]:
        """All tensors by name. mask: bool, in the weight's shape, True for weights that are not pruned."""
        assert mask is not None
        kept = self.kept_as.write(self.places.kept_values(elements, mask))
        return {"weight": kept, **beside, MASK: self.places.pack(mask)}

    def check(self, name: str, tensor: Tensor) -> None:
        if name == MASK:
            self.places.unpack(tensor, self.shape)
        else:
            self.around.check(name, tensor)

    @property
    def version(self) -> int:
        return max(3, self.around.version)

    def to_json(self) -> dict[str, Any]:
        pattern = self.places.pattern
        sparse = {
            "kept": self.places.kept,
            "pattern": None if pattern is None else f"{pattern[0]}:{pattern[1]}",
            "format": self.kept_as.format.name if isinstance(self.kept_as, Coded) else None,
        }
        masked: dict[str, Any] = {"masked": True} if self.around.needs_mask else {}
        return {**masked, "sparse": sparse, **self.around.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Sparse:
        around = Dense.from_json(content) if content["format"] is None else Coded.from_json(content)
        sparse, name = content["sparse"], content["sparse"]["format"]
        kept_as: Elementwise = around
        if isinstance(around, Coded) and name is not None and name != around.format.name:
            kept_as = Coded(get_format(str(name)), around.grouping, around.shape)
        fits = kept_as == around or (isinstance(kept_as, Coded) and kept_as.format.zero_format == content["format"])
        named = isinstance(kept_as, Coded) == (name is not None)
        if not fits or not named or bool(content.get("masked", False)) != around.needs_mask:
            raise ValueError(f"sparse {sparse!r} of format {content['format']!r}")
        return cls(around, _read_places(sparse, around.shape), kept_as)


def pruned_weight(
    around: Elementwise, kept_as: Elementwise, kept: int, pattern: tuple[int, int] | None, float_bytes: int
) -> Elementwise | Masked | Sparse:
    """The smallest representation of a weight of which ``kept`` elements are not pruned.

    pattern: (kept, of) if the mask keeps ``kept`` of every ``of`` neighbouring inputs; else None.
    """
    fits = pattern is not None and math.comb(pattern[1], pattern[0]) <= MOST_COMBINATIONS
    sparse = Sparse(around, Places(kept, pattern if fits else None), kept_as)
    whole = Masked(around) if around.needs_mask else around
    return sparse if sparse.packed_bytes(float_bytes) < whole.packed_bytes(float_bytes) else whole


def _read_places(content: Any, shape: tuple[int, ...]) -> Places:
    kept, text, numel = whole_number(content["kept"], 0), content["pattern"], math.prod(shape)
    if kept > numel:
        raise ValueError(f"kept {kept} of {numel} weights")
    if text is None:
        return Places(kept, None)
    few, of = (whole_number(int(part), 1) for part in str(text).split(":"))
    if few > of or shape[1] % of or kept * of != numel * few or math.comb(of, few) > MOST_COMBINATIONS:
        raise ValueError(f"pattern {text!r} with {kept} kept of shape {shape}")
    return Places(kept, (few, of))
