"""Packed checkpoints: freeze, write, verify and load them; and load the models in DeepSpeed checkpoints."""

from __future__ import annotations

from xtc_ds.checkpoint.deepspeed_model import load_checkpoint
from xtc_ds.checkpoint.export import ExportReport, export_packed
from xtc_ds.checkpoint.frozen import freeze
from xtc_ds.checkpoint.load import accept_config, load, load_into, read_quantization_config

__all__ = [
    "ExportReport",
    "accept_config",
    "export_packed",
    "freeze",
    "load",
    "load_checkpoint",
    "load_into",
    "read_quantization_config",
]
