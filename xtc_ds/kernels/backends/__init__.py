"""The backends of each operation in order of preference; a new one is a class and a place in a line here."""

from __future__ import annotations

from xtc_ds.kernels.backend import Backend, ProductSpec
from xtc_ds.kernels.backends.decoded import DecodedLinear, DecodedLookup, FakeQuantized
from xtc_ds.kernels.backends.encoder import EncoderSpec, ModuleByModule, NativeEncoder
from xtc_ds.kernels.backends.native import NativeLinear, NativeLookup, NativeTraining
from xtc_ds.kernels.backends.torch_integers import TorchIntegerLinear, TorchIntegerTraining, TorchLookup
from xtc_ds.kernels.backends.triton import TritonLinear
from xtc_ds.kernels.native import EncoderLayer
from xtc_ds.kernels.operands import LinearProduct, Lookup
from xtc_ds.kernels.training import WeightLayout

__all__ = ["DECODED", "ENCODER", "INT8", "LINEAR", "LOOKUP", "TRAINING"]

#: kinds of layers for which there is no kernel
DECODED: tuple[Backend[ProductSpec, LinearProduct], ...] = (DecodedLinear(),)

#: a frozen layer's inputs times its packed weight
LINEAR: tuple[Backend[ProductSpec, LinearProduct], ...] = (
    TritonLinear(), NativeLinear(), TorchIntegerLinear(), DecodedLinear()
)  # fmt: skip

#: the same where a layer holds int8 codes in memory, in the layout of one backend, as a teacher in 8 bits does
INT8: tuple[Backend[ProductSpec, LinearProduct], ...] = (NativeLinear(), TorchIntegerLinear())

#: rows of a frozen table
LOOKUP: tuple[Backend[ProductSpec, Lookup], ...] = (NativeLookup(), TorchLookup(), DecodedLookup())

#: a linear layer in training: how its weight's codes lie in memory; None: it multiplies floats
TRAINING: tuple[Backend[ProductSpec, WeightLayout | None], ...] = (
    NativeTraining(), TorchIntegerTraining(), FakeQuantized()
)  # fmt: skip

#: a layer of a frozen encoder in the runtime "fused"; None: it runs module by module
ENCODER: tuple[Backend[EncoderSpec, type[EncoderLayer] | None], ...] = (NativeEncoder(), ModuleByModule())
