"""The ``compression_training`` block: its schema, reading, checking, and what it says as dataclasses.

Nothing here needs torch.
"""

from __future__ import annotations

from xtc_ds.config.load import check_config, load_config
from xtc_ds.config.model import (
    ActivationGroup,
    AttentionType,
    BackwardDtype,
    CompressionConfig,
    Distillation,
    Export,
    FloatDtype,
    Format,
    Granularity,
    LayerReduction,
    PruningMethod,
    QuantizationType,
    RangeCalibration,
    Rounding,
    Runtime,
    SparseGroup,
    StructuredGroup,
    TeacherDtype,
    WeightGroup,
)
from xtc_ds.config.parse import parse_block
from xtc_ds.config.schema_file import schema
from xtc_ds.config.source import read_config, split_config
from xtc_ds.config.validate import check_block

__all__ = [
    "ActivationGroup",
    "AttentionType",
    "BackwardDtype",
    "CompressionConfig",
    "Distillation",
    "Export",
    "FloatDtype",
    "Format",
    "Granularity",
    "LayerReduction",
    "PruningMethod",
    "QuantizationType",
    "RangeCalibration",
    "Rounding",
    "Runtime",
    "SparseGroup",
    "StructuredGroup",
    "TeacherDtype",
    "WeightGroup",
    "check_block",
    "check_config",
    "load_config",
    "parse_block",
    "read_config",
    "schema",
    "split_config",
]
