"""The description of a requested operation, and the protocol that every backend implements.

For each operation (a product with a frozen weight, a look-up, training ...) ``backends`` lists its backends, fastest
first; the last one accepts everything. A backend returns the reason for a refusal as text, and refuses whatever it does
not know. ``choose`` picks the first backend that does not refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from xtc_ds.formats import ActivationFormat, Grouping, WeightFormat

__all__ = ["Backend", "Inputs", "ProductSpec"]


@dataclass(frozen=True)
class ProductSpec:
    """Describes a weight and the quantization of its inputs; holds no tensors.

    weight_format: None if the weight is not stored as codes. grouping: which weights share a scale.
    shape: shape of the weight, output features first; for an embedding table (rows, columns).
    activation: None if the inputs are not quantized.
    masked: a mask stored beside the codes sets some weights to zero. sparse: only the nonzero weights are stored.
    unpacked: the layer keeps its weight unpacked in memory (the runtime "unpacked").
    """

    weight_format: WeightFormat | None
    grouping: Grouping
    shape: tuple[int, ...]
    activation: ActivationFormat | None = None
    masked: bool = False
    sparse: bool = False
    unpacked: bool = False


@dataclass(frozen=True)
class Inputs:
    """Describes the tensor that is multiplied with the weight.

    device: device of input and weight. dtype: dtype of the input; for a look-up, dtype of the result. needs_grad:
    whether the input needs a gradient.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    needs_grad: bool = False


Spec_contra = TypeVar("Spec_contra", contravariant=True)
Bound_co = TypeVar("Bound_co", covariant=True)


class Backend(Protocol[Spec_contra, Bound_co]):
    """One implementation of an operation. Backends are stateless."""

    @property
    def name(self) -> str:
        """Name shown to users."""

    def refuses(self, spec: Spec_contra, inputs: Inputs) -> str | None:
        """The reason why this weight, these inputs or this machine are not supported; None if they are."""

    def bind(self, spec: Spec_contra) -> Bound_co:
        """Return the object that runs the operation for ``spec``. Only called after ``refuses`` returned None."""

    def instructions(self) -> str | None:
        """The CPU instruction set in use on this machine; None if this package does not choose it."""
