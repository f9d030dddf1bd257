"""The functions of ``deepspeed.compression`` up to DeepSpeed 0.19.6, with the same signatures, for any version.

``install()`` also makes the old import paths work again. Importing this module imports neither torch nor DeepSpeed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xtc_ds.compat.install import install, uninstall
from xtc_ds.compat.names import NAMES, load_name

if TYPE_CHECKING:
    from xtc_ds.compat.conv1d import convert_conv1d_to_linear
    from xtc_ds.compat.model import init_compression, redundancy_clean
    from xtc_ds.compat.old_config import get_compression_config
    from xtc_ds.compat.scheduler import compression_scheduler
    from xtc_ds.compat.student import student_initialization

__all__ = [
    "compression_scheduler",
    "convert_conv1d_to_linear",
    "get_compression_config",
    "init_compression",
    "install",
    "redundancy_clean",
    "student_initialization",
    "uninstall",
]


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = globals()[name] = load_name(name)
    return value
