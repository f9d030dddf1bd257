"""The layers of a frozen model, which store packed codes and compute with them, and the fused encoder."""

from __future__ import annotations

from xtc_ds.runtime.choose import check_runtime, set_runtime
from xtc_ds.runtime.packed import PackedLayer, PackedSpec
from xtc_ds.runtime.packed_layers import PackedConv2d, PackedEmbedding, PackedLinear

__all__ = [
    "PackedConv2d",
    "PackedEmbedding",
    "PackedLayer",
    "PackedLinear",
    "PackedSpec",
    "check_runtime",
    "set_runtime",
]
