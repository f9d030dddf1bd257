"""What techniques do to the weight and the input of a compressed layer.

A technique gives a layer transforms; the layer applies those that are in force, in the order in which they were added.
Transforms are immutable and shared by copies of a layer: whatever they need as tensors (masks, scores, ranges) are
parameters, buffers or submodules of the layer, which is passed to every method.

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
    """A weight format, which weights share a scale, and the shape of the weight, outputs first."""

    format: WeightFormat
    grouping: Grouping
    shape: tuple[int, ...]


class WeightInForce:
    """What is done to a weight at one step of the schedule.

    format: the format whose codes the weight stands for, if any. coding: set where all that happens is that the weight
    is replaced by what its codes stand for; then the layer may multiply the codes themselves. by_row: whether what a
    row becomes depends on that row alone.
    """

    format: WeightFormat | None = None
    coding: Coding | None = None
    by_row: bool = False

    def __call__(
        self, layer: CompressedLayer, w: Tensor, bias_O: Tensor | None, rows_O: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Weight and bias that the layer computes with; ``w`` is (O, I) or (O, I, kH, kW).

        rows_O: which rows of the layer's weight ``w`` holds, int64; by default all of them in order.
        """
        raise NotImplementedError


class WeightTransform:
    """What one technique does to the weight of a layer. row: of the plan."""

    row: Any
    # Whether final_weight gives other values than the layer's weight has.
    changes_values: bool = False

    def at(self, layer: CompressedLayer, step: int) -> WeightInForce | None:
        """What is in force after ``step`` applied optimizer steps; None for nothing. A call for all ranks."""
        raise NotImplementedError

    def bits_at(self, step: int) -> float | None:
        """Bits per weight in force after ``step`` applied steps, 32 for floats; None where that is not its matter."""
        return None

    def kept_inputs(self, layer: CompressedLayer) -> Tensor | None:
        """Indices (int64) of the inputs that the frozen layer gets; None for all. Called in the layer's forward."""
        return None

    def final_weight(self, layer: CompressedLayer, w: Tensor) -> Tensor:
        """The trained float weight, outputs first, before codes and masks; with ZeRO-3 a call for all ranks."""
        return w

    def shipped_encoding(self, layer: CompressedLayer, w_OI: Tensor) -> Encoded:
        """For a ``CodedRow``: the codes of the whole trained weight, groups first. With ZeRO-3 a call for all ranks."""
        encoded: Encoded = self.row.target_format.encode(self.row.grouping.split(w_OI))
        return encoded

    def kept_units(self, layer: CompressedLayer) -> Tensor | None:
        """For a row with cuts: which of its units stay, bool, (units,). With ZeRO-3 a call for all ranks."""
        return None

    def weight_mask(self, layer: CompressedLayer) -> Tensor | None:
        """Which weights stay where others become zeros, bool, outputs first; None for all. A call for all ranks."""
        return None

    def bias_mask(self, layer: CompressedLayer) -> Tensor | None:
        """Which values of the bias stay where others become zeros, bool, (O,); None for all. A call for all ranks."""
        return None

    def module_attributes(self, model: nn.Module) -> Mapping[str, Mapping[str, int]]:
        """Module name to attributes that have another value once the cuts of this transform are made."""
        return {}

    def remove(self, layer: CompressedLayer) -> None:
        """Take the transform's parameters, buffers and submodules off the layer; its weight holds the result."""


class InputInForce:
    """What is done to an input at one step of the schedule. format: of the codes that it stands for afterwards."""

    format: ActivationFormat | None = None

    def __call__(self, layer: CompressedLayer, x: Tensor) -> Tensor:
        """The input that the layer computes with, of the same shape."""
        raise NotImplementedError

    def range(self, layer: CompressedLayer, x: Tensor) -> Tensor | None:
        """The static range (minimum, maximum) for the codes of ``x``; None where each input has its own."""
        return None


class InputTransform:
    """What one technique does to the input of a layer. row: of the plan."""

    row: Any

    def at(self, step: int) -> InputInForce | None:
        """What is in force after ``step`` applied optimizer steps; None for nothing."""
        raise NotImplementedError

    def bits_at(self, step: int) -> float | None:
        """Bits per value in force after ``step`` applied steps, 32 for floats; None where that is not its matter."""
        return None

    def kept_inputs(self, layer: CompressedLayer) -> Tensor | None:
        """Indices (int64) of the inputs that the frozen layer gets; None for all. Called in the layer's forward."""
        return None

    def stored_range(self, layer: CompressedLayer, name: str) -> Tensor | None:
        """The static range that is shipped. Raises ExportError, naming the layer, where none was observed."""
        return None

    def finished(self) -> InputTransform | None:
        """The transform at the end of its schedule, for a layer that is no longer trained; None: not needed."""
        return None

    def follow_copies(self: T, copies: Mapping[int, Any]) -> T:
        """The transform for a copy of the model; ``copies``: id of an original module to its copy."""
        return self

    def remove(self, layer: CompressedLayer) -> None:
        """Take the transform's parameters, buffers and submodules off the layer."""
