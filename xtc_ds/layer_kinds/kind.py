"""``LayerKind``: all that the rest of the project has to know about one class of layers.

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
# What a dimension of a tensor counts: input features, output features, or the channels of a norm.
Side = Literal["in", "out", "features"]
# The sides of a tensor's dimensions, in order; None: neither inputs nor outputs, such as a kernel's height.
Dimensions = tuple[Side | None, ...]


@dataclass(frozen=True)
class LayerKind:
    """One row of the table of layer kinds.

    name: the name in plans, reports and files, such as "Linear".
    is_one: whether a module, not compressed, is of this kind. A subclass usually is not: its forward may differ.
    operation: what the layer does with its weight. Techniques choose the kinds they take by it.
    tensors: parameter or buffer name to the sides of its dimensions, the weight's outputs first. What a frozen layer
        holds is listed here; a tensor that is not is left out of a pruned layer. ``{"weight": ("out", "in")}``
    sizes: attribute of the module that names a size to the dimension of the weight, outputs first.
    stored_order: the stored weight is the weight outputs first, permuted so; None: stored outputs first. A Conv1D,
        (I, O), has (1, 0).
    feature_dim: dimension of the input that holds features or channels, counted from the end.
    base: a class whose subclasses look like this kind; one that is no kind itself is refused by name.
    packed: the kind of packed layer that a frozen one becomes; None: it is never packed.
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
        """A view of a weight, outputs first, in the order in which the module stores it."""
        return w if self.stored_order is None else w.permute(self.stored_order)

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The stored weight's shape; ``shape`` is outputs first."""
        return shape if self.stored_order is None else tuple(shape[dim] for dim in self.stored_order)

    def shape_of(self, module: nn.Module) -> tuple[int, ...]:
        """The whole weight's shape, outputs first; of a norm, which may lack a weight, (features,)."""
        if self.operation == "norm":
            return tuple(int(getattr(module, attribute)) for attribute in self.sizes)
        stored = full_shape(module.weight)  # type: ignore[arg-type]
        return stored if self.stored_order is None else tuple(stored[dim] for dim in self._inverse_order())

    def set_sizes(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        """Let the attributes that name the module's sizes say ``shape``, outputs first."""
        for attribute, dim in self.sizes.items():
            grouped = self.tensors["weight"][dim] == "in"  # each group of a convolution reads its part of the channels
            if hasattr(module, attribute):
                setattr(module, attribute, shape[dim] * (getattr(module, "groups", 1) if grouped else 1))

    def tensor_shape(self, key: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The stored shape of the tensor ``key`` in a layer of ``shape``, outputs first.

        None for a tensor whose size does not follow from the weight's.
        """
        if key == "weight":
            return self.stored_shape(shape)
        sizes = dict(zip(self.tensors["weight"], shape, strict=True))
        found = [sizes.get(side) for side in self.tensors.get(key, ())]
        return tuple(size for size in found if size is not None) if found and None not in found else None

    def dims(self, key: str, stored: bool = True) -> dict[Side, int]:
        """Which dimension of the tensor ``key`` is which side; empty for a tensor that never shrinks.

        stored: as the module stores it; False: outputs first.
        """
        sides = self.tensors.get(key, ())
        if stored and key == "weight" and self.stored_order is not None:
            sides = tuple(sides[dim] for dim in self.stored_order)
        return {side: dim for dim, side in enumerate(sides) if side is not None}

    def _inverse_order(self) -> tuple[int, ...]:
        assert self.stored_order is not None
        return tuple(self.stored_order.index(dim) for dim in range(len(self.stored_order)))
