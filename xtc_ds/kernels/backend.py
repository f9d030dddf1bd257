"""What the kernels are asked for, and what a backend is that answers.

For each operation (a product with a frozen weight, a look-up, training ...) ``backends`` lists backends, the fastest
first; the last one takes everything. A backend says in words what it refuses, and refuses what it does not know;
``choose`` takes the first that refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from xtc_ds.formats import ActivationFormat, Grouping, WeightFormat

__all__ = ["Backend", "Inputs", "ProductSpec"]


@dataclass(frozen=True)
class ProductSpec:
    """A weight and how its inputs are quantized, without any tensor.

    weight_format: None where the weight is not stored as codes. grouping: which weights share a scale.
    shape: of the weight, output features first; of a table (rows, columns).
    activation: None where the inputs are used as they are.
    masked: a mask beside the codes makes some weights zero. sparse: only the weights that are not zero are stored.
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
    """What meets the weight.

    device: where input and weight are. dtype: of the input; of a look-up, that of the result. needs_grad: whether a
    gradient flows back to the input.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    needs_grad: bool = False


Spec_contra = TypeVar("Spec_contra", contravariant=True)
Bound_co = TypeVar("Bound_co", covariant=True)


class Backend(Protocol[Spec_contra, Bound_co]):
    """One way to carry out an operation. Backends have no state."""

    @property
    def name(self) -> str:
        """What people call it."""

    def refuses(self, spec: Spec_contra, inputs: Inputs) -> str | None:
        """Why this weight, these inputs or this machine are refused; None: they are taken."""

    def bind(self, spec: Spec_contra) -> Bound_co:
        """What carries out the operation for layers of this kind; ``refuses`` has given None before."""

    def instructions(self) -> str | None:
        """Which of a processor's instructions it uses here; None where that is not ours to choose."""
