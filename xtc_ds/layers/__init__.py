"""Compressed Linear, Embedding, Conv1D and Conv2d: the original modules with their class swapped."""

from __future__ import annotations

from xtc_ds.layers.compressed import LEARNED_PARTS, CompressedLayer, compressed_layers, set_step
from xtc_ds.layers.conv1d import CompressedConv1D
from xtc_ds.layers.conv2d import CompressedConv2d
from xtc_ds.layers.embedding import CompressedEmbedding
from xtc_ds.layers.learned_parts import LearnedParts
from xtc_ds.layers.linear import CompressedLinear
from xtc_ds.layers.masks import PrunedLayer, add_pruning
from xtc_ds.layers.range_observer import RangeObserver
from xtc_ds.layers.swap import restore_class, swap_class

__all__ = [
    "LEARNED_PARTS",
    "CompressedConv1D",
    "CompressedConv2d",
    "CompressedEmbedding",
    "CompressedLayer",
    "CompressedLinear",
    "LearnedParts",
    "PrunedLayer",
    "RangeObserver",
    "add_pruning",
    "compressed_layers",
    "restore_class",
    "set_step",
    "swap_class",
]
