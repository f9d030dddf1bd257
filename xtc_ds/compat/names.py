"""The names that ``deepspeed.compression`` had and the modules that define them here, imported only on demand."""

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
    """The function or class for one of ``NAMES``."""
    return getattr(importlib.import_module(_HOMES[name]), name)
