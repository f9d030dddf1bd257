"""The backends of each operation in order of preference. A new backend is a class plus an entry in a tuple here."""

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

#: products of layer kinds that have no kernel
DECODED: tuple[Backend[ProductSpec, LinearProduct], ...] = (DecodedLinear(),)

#: inputs of a frozen layer times its packed weight
LINEAR: tuple[Backend[ProductSpec, LinearProduct], ...] = (
    TritonLinear(), NativeLinear(), TorchIntegerLinear(), DecodedLinear()
)  # fmt: skip

#: like ``LINEAR`` for layers that hold int8 codes in memory in one backend's layout, such as those of an 8-bit teacher
INT8: tuple[Backend[ProductSpec, LinearProduct], ...] = (NativeLinear(), TorchIntegerLinear())

#: look-up of rows in a frozen embedding table
LOOKUP: tuple[Backend[ProductSpec, Lookup], ...] = (NativeLookup(), TorchLookup(), DecodedLookup())

#: training of a linear layer: binds the memory layout of the weight's codes; None means that floats are multiplied
TRAINING: tuple[Backend[ProductSpec, WeightLayout | None], ...] = (
    NativeTraining(), TorchIntegerTraining(), FakeQuantized()
)  # fmt: skip

#: a layer of a frozen encoder in the runtime "fused"; None means that it runs module by module
ENCODER: tuple[Backend[EncoderSpec, type[EncoderLayer] | None], ...] = (NativeEncoder(), ModuleByModule())
