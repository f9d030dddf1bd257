"""The backends of each operation in order of preference; a new one is a class and a place in a line here."""

from __future__ import annotations

from xtc_ds.kernels.backend import Backend, ProductSpec
from xtc_ds.kernels.backends.decoded import DecodedLinear, DecodedLookup, FakeQuantized
from xtc_ds.kernels.backends.native import NativeLinear, NativeLookup, NativeTraining
from xtc_ds.kernels.backends.torch_integers import TorchIntegerLinear, TorchIntegerTraining, TorchLookup
from xtc_ds.kernels.backends.triton import TritonLinear
from xtc_ds.kernels.operands import LinearProduct, Lookup
from xtc_ds.kernels.training import WeightLayout

__all__ = ["LINEAR", "LOOKUP", "TRAINING"]

#: a frozen layer's inputs times its packed weight
LINEAR: tuple[Backend[ProductSpec, LinearProduct], ...] = (
    TritonLinear(), NativeLinear(), TorchIntegerLinear(), DecodedLinear()
)  # fmt: skip

#: rows of a frozen table
LOOKUP: tuple[Backend[ProductSpec, Lookup], ...] = (NativeLookup(), TorchLookup(), DecodedLookup())

#: a linear layer in training: how its weight's codes lie in memory; None: it multiplies floats
TRAINING: tuple[Backend[ProductSpec, WeightLayout | None], ...] = (
    NativeTraining(), TorchIntegerTraining(), FakeQuantized()
)  # fmt: skip
