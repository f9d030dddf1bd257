"""Compressed Linear, Embedding and Conv1D: the original modules with their class swapped."""

from __future__ import annotations

from xtc_ds.layers.compressed import CompressedLayer, compressed_layers, set_step
from xtc_ds.layers.conv1d import CompressedConv1D
from xtc_ds.layers.embedding import CompressedEmbedding
from xtc_ds.layers.linear import CompressedLinear
from xtc_ds.layers.range_observer import RangeObserver
from xtc_ds.layers.swap import swap_class

__all__ = [
    "CompressedConv1D",
    "CompressedEmbedding",
    "CompressedLayer",
    "CompressedLinear",
    "RangeObserver",
    "compressed_layers",
    "set_step",
    "swap_class",
]
