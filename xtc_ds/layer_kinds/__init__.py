"""Layer kinds: how each stores its weight, what it computes, and which classes are used for training and when frozen.

No code outside this table checks whether a module is a Linear or a Conv1D.
"""

from __future__ import annotations

from xtc_ds.layer_kinds.builtin import exactly
from xtc_ds.layer_kinds.kind import Dimensions, LayerKind, Operation, Side
from xtc_ds.layer_kinds.table import (
    compressed_class,
    kind_of,
    kinds_with,
    layer_kind,
    layer_kind_of,
    looks_like_a_layer,
    packed_class,
    packed_kinds,
    register_compressed,
    register_kind,
    register_packed,
    weight_shape,
)

__all__ = [
    "Dimensions",
    "LayerKind",
    "Operation",
    "Side",
    "compressed_class",
    "exactly",
    "kind_of",
    "kinds_with",
    "layer_kind",
    "layer_kind_of",
    "looks_like_a_layer",
    "packed_class",
    "packed_kinds",
    "register_compressed",
    "register_kind",
    "register_packed",
    "weight_shape",
]
