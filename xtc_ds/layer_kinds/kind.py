"""``LayerKind``: everything that the rest of the package needs to know about one class of layers.

Shape legend: O and I = output and input features or channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from xtc_ds.zero import full_shape

__all__ = ["Dimensions", "LayerKind", "Operation", "Side"]

Operation = Literal["linear", "embedding", "convolution", "norm"]
# What a dimension of a tensor counts: input features, output features, or the features of a norm.
Side = Literal["in", "out", "features"]
# The sides of a tensor's dimensions, in order; None for a dimension that is neither, such as a kernel's height.
Dimensions = tuple[Side | None, ...]


@dataclass(frozen=True)
class LayerKind:
    """One row of the table of layer kinds.

    name: the name in plans, reports and files, such as "Linear".
    is_one: whether an uncompressed module is of this kind; usually False for subclasses, whose forward may differ.
    operation: what the layer does with its weight. Techniques use it to choose the kinds that they support.
    tensors: maps each parameter or buffer name to the sides of its dimensions (the weight's outputs first), such as
        ``{"weight": ("out", "in")}``. Every tensor of a frozen layer must be listed: others are dropped by pruning.
    sizes: maps each size attribute of the module to a dimension of the weight (outputs first).
    stored_order: permutation from the weight, outputs first, to the stored weight; None if it is stored outputs first.
        A Conv1D, which stores (I, O), has (1, 0).
    feature_dim: dimension of the input that holds features or channels, counted from the end.
    base: a class whose subclasses look like this kind; a subclass that is not a kind itself is refused by name.
    packed: name of the packed layer that a frozen layer becomes; None if this kind is never packed.
    """

    name: str
    is_one: Callable[[nn.Module], bool]
    operation: Operation
    tensors: Mapping[str, Dimensions]
    sizes: Mapping[str, int] = field(default_factory=dict)
    stored_order: tuple[int, ...] | None = None
    feature_dim: int = -1
    base: type[nn.Module] | None = None
    packed: str | None = None

    def outputs_first(self, stored: Tensor) -> Tensor:
        """A view of the stored weight as (O, I) or (O, I, kH, kW)."""
        return stored if self.stored_order is None else stored.permute(self._inverse_order())

    def as_stored(self, w: Tensor) -> Tensor:
        """A view of ``w`` (outputs first) in the order in which the module stores it."""
        return w if self.stored_order is None else w.permute(self.stored_order)

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the stored weight, from ``shape`` with outputs first."""
        return shape if self.stored_order is None else tuple(shape[dim] for dim in self.stored_order)

    def shape_of(self, module: nn.Module) -> tuple[int, ...]:
        """Shape of the whole weight (also if ZeRO-3 partitions it), outputs first; (features,) for a norm."""
        if self.operation == "norm":
            return tuple(int(getattr(module, attribute)) for attribute in self.sizes)
        stored = full_shape(module.weight)  # type: ignore[arg-type]
        return stored if self.stored_order is None else tuple(stored[dim] for dim in self._inverse_order())

    def set_sizes(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        """Set the module's size attributes to match ``shape`` (outputs first)."""
        for attribute, dim in self.sizes.items():
            grouped = self.tensors["weight"][dim] == "in"  # each group of a convolution reads its share of the channels
            if hasattr(module, attribute):
                setattr(module, attribute, shape[dim] * (getattr(module, "groups", 1) if grouped else 1))

    def tensor_shape(self, key: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The stored shape of the tensor ``key`` in a layer whose weight has ``shape`` (outputs first).

        None for a tensor whose shape does not follow from the weight's.
        """
        if key == "weight":
            return self.stored_shape(shape)
        sizes = dict(zip(self.tensors["weight"], shape, strict=True))
        found = [sizes.get(side) for side in self.tensors.get(key, ())]
        return tuple(size for size in found if size is not None) if found and None not in found else None

    def dims(self, key: str, stored: bool = True) -> dict[Side, int]:
        """Maps each side to its dimension of the tensor ``key``; empty for a tensor that never shrinks.

        stored: count dimensions as the module stores the tensor; False for outputs first.
        """
        sides = self.tensors.get(key, ())
        if stored and key == "weight" and self.stored_order is not None:
            sides = tuple(sides[dim] for dim in self.stored_order)
        return {side: dim for dim, side in enumerate(sides) if side is not None}

    def _inverse_order(self) -> tuple[int, ...]:
        assert self.stored_order is not None
        return tuple(self.stored_order.index(dim) for dim in range(len(self.stored_order)))
