"""The names that ``deepspeed.compression`` had, and where they are defined here; nothing is imported until asked."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["NAMES", "load_name"]

_HOMES = {
    "compression_scheduler": "xtc_ds.compat.scheduler",
    "convert_conv1d_to_linear": "xtc_ds.compat.conv1d",
    "get_compression_config": "xtc_ds.compat.old_config",
    "init_compression": "xtc_ds.compat.model",
    "redundancy_clean": "xtc_ds.compat.model",
    "student_initialization": "xtc_ds.compat.student",
}
NAMES = frozenset(_HOMES)


def load_name(name: str) -> Any:
    """What stands for one of ``NAMES``."""
    return getattr(importlib.import_module(_HOMES[name]), name)
