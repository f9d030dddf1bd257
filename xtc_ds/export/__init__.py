"""The packed checkpoint: freeze, export, load."""

from __future__ import annotations

from xtc_ds.export.freeze import freeze, is_frozen
from xtc_ds.export.load import load, load_into, read_quantization_config
from xtc_ds.export.packed import PackedEmbedding, PackedLayer, PackedLinear, PackedSpec
from xtc_ds.export.write import ExportReport, export_packed

__all__ = [
    "ExportReport",
    "PackedEmbedding",
    "PackedLayer",
    "PackedLinear",
    "PackedSpec",
    "export_packed",
    "freeze",
    "is_frozen",
    "load",
    "load_into",
    "read_quantization_config",
]
