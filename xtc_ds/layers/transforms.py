"""Transforms: what techniques do to the weight and the input of a compressed layer.

A technique adds transforms to a layer; the layer applies the active ones in the order in which they were added.
Transforms are immutable and shared by copies of a layer: all tensors they need (masks, scores, ranges) are parameters,
buffers or submodules of the layer, which is passed to every method.

Shape legend: O and I = output and input features or channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from torch import Tensor, nn

from xtc_ds.formats import ActivationFormat, Encoded, Grouping, WeightFormat

if TYPE_CHECKING:
    from xtc_ds.layers.compressed import CompressedLayer

__all__ = ["Coding", "InputInForce", "InputTransform", "WeightInForce", "WeightTransform"]

T = TypeVar("T", bound="InputTransform")


class Coding(NamedTuple):
    """A weight format, its grouping (which weights share a scale), and the shape of the weight, outputs first."""

    format: WeightFormat
    grouping: Grouping
    shape: tuple[int, ...]


class WeightInForce:
    """What an active transform does to a weight at one step of the schedule.

    format: the format to which the weight is quantized, if any. coding: set if the transform does nothing but quantize
    and dequantize the weight; then the layer may multiply the codes instead. by_row: whether each row of the result
    depends only on the same row of the weight.
    """

    format: WeightFormat | None = None
    coding: Coding | None = None
    by_row: bool = False

    def __call__(
        self, layer: CompressedLayer, w: Tensor, bias_O: Tensor | None, rows_O: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The weight and bias with which the layer computes; ``w`` is (O, I) or (O, I, kH, kW).

        rows_O: indices (int64) of the rows of the layer's weight that ``w`` holds; by default all rows in order.
        """
        raise NotImplementedError


class WeightTransform:
    """What one technique does to the weight of a layer. row: the technique's row of the plan."""

    row: Any
    # Whether ``final_weight`` differs from the layer's parameter ``weight``.
    changes_values: bool = False

    def at(self, layer: CompressedLayer, step: int) -> WeightInForce | None:
        """What is active after ``step`` applied optimizer steps; None for nothing. All ranks have to call this."""
        raise NotImplementedError

    def bits_at(self, step: int) -> float | None:
        """Bits per weight after ``step`` applied steps, 32 for floats; None if the transform does not quantize."""
        return None

    def kept_inputs(self, layer: CompressedLayer) -> Tensor | None:
        """Indices (int64) of the inputs that the frozen layer will receive; None for all. Called in the forward."""
        return None

    def final_weight(self, layer: CompressedLayer, w: Tensor) -> Tensor:
        """The trained float weight, outputs first, before quantization and masks. With ZeRO-3 all ranks call this."""
        return w

    def shipped_encoding(self, layer: CompressedLayer, w_OI: Tensor) -> Encoded:
        """For a ``CodedRow``: codes of the whole trained weight, groups in dim 0. With ZeRO-3 all ranks call this."""
        encoded: Encoded = self.row.target_format.encode(self.row.grouping.split(w_OI))
        return encoded

    def kept_units(self, layer: CompressedLayer) -> Tensor | None:
        """For a row with cuts: mask of the units to keep, bool, (units,). With ZeRO-3 all ranks call this."""
        return None

    def weight_mask(self, layer: CompressedLayer) -> Tensor | None:
        """Mask of the weights to keep if others become zeros: bool, outputs first; None: all. All ranks call this."""
        return None

    def bias_mask(self, layer: CompressedLayer) -> Tensor | None:
        """Mask of the bias values to keep if others become zeros: bool, (O,); None: all. All ranks call this."""
        return None

    def module_attributes(self, model: nn.Module) -> Mapping[str, Mapping[str, int]]:
        """Module name to attributes and their values after the cuts of this transform."""
        return {}

    def remove(self, layer: CompressedLayer) -> None:
        """Remove the transform's parameters, buffers and submodules; the layer's weight holds the result already."""


class InputInForce:
    """What an active transform does to an input at one step of the schedule. format: to which it quantizes, if any."""

    format: ActivationFormat | None = None

    def __call__(self, layer: CompressedLayer, x: Tensor) -> Tensor:
        """The transformed input, of the same shape."""
        raise NotImplementedError

    def range(self, layer: CompressedLayer, x: Tensor) -> Tensor | None:
        """The static range (minimum, maximum) for quantizing ``x``; None for a dynamic range."""
        return None


class InputTransform:
    """What one technique does to the input of a layer. row: the technique's row of the plan."""

    row: Any

    def at(self, step: int) -> InputInForce | None:
        """What is active after ``step`` applied optimizer steps; None for nothing."""
        raise NotImplementedError

    def bits_at(self, step: int) -> float | None:
        """Bits per value after ``step`` applied steps, 32 for floats; None if the transform does not quantize."""
        return None

    def kept_inputs(self, layer: CompressedLayer) -> Tensor | None:
        """Indices (int64) of the inputs that the frozen layer will receive; None for all. Called in the forward."""
        return None

    def stored_range(self, layer: CompressedLayer, name: str) -> Tensor | None:
        """The static range to be shipped, or None. Raises ExportError, naming the layer, if no input was observed."""
        return None

    def finished(self) -> InputTransform | None:
        """The transform in its final state, for a layer that is no longer trained; None if it is not needed then."""
        return None

    def follow_copies(self: T, copies: Mapping[int, Any]) -> T:
        """The transform for a copy of the model; ``copies``: id of each original module to its copy."""
        return self

    def remove(self, layer: CompressedLayer) -> None:
        """Remove the transform's parameters, buffers and submodules from the layer."""
