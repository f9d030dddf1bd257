"""Compressed Linear, Embedding, Conv1D and Conv2d: the original module objects with a different class."""

from __future__ import annotations

from xtc_ds.layers.compressed import CompressedLayer, compressed_layers, set_step
from xtc_ds.layers.conv1d import CompressedConv1D
from xtc_ds.layers.conv2d import CompressedConv2d
from xtc_ds.layers.embedding import CompressedEmbedding
from xtc_ds.layers.linear import CompressedLinear
from xtc_ds.layers.range_observer import RangeObserver
from xtc_ds.layers.swap import restore_class, swap_class
from xtc_ds.layers.transforms import Coding, InputInForce, InputTransform, WeightInForce, WeightTransform

__all__ = [
    "Coding",
    "CompressedConv1D",
    "CompressedConv2d",
    "CompressedEmbedding",
    "CompressedLayer",
    "CompressedLinear",
    "InputInForce",
    "InputTransform",
    "RangeObserver",
    "WeightInForce",
    "WeightTransform",
    "compressed_layers",
    "restore_class",
    "set_step",
    "swap_class",
]
