"""The packed checkpoint: freeze, export, load; and the dense bake."""

from __future__ import annotations

from xtc_ds.export.bake import bake
from xtc_ds.export.checkpoint import load_checkpoint
from xtc_ds.export.freeze import freeze, is_frozen
from xtc_ds.export.load import accept_config, load, load_into, read_quantization_config
from xtc_ds.export.packed import PackedLayer, PackedSpec, set_runtime
from xtc_ds.export.packed_layers import PackedConv2d, PackedEmbedding, PackedLinear
from xtc_ds.export.write import ExportReport, export_packed

__all__ = [
    "ExportReport",
    "PackedConv2d",
    "PackedEmbedding",
    "PackedLayer",
    "PackedLinear",
    "PackedSpec",
    "accept_config",
    "bake",
    "export_packed",
    "freeze",
    "is_frozen",
    "load",
    "load_checkpoint",
    "load_into",
    "read_quantization_config",
    "set_runtime",
]
