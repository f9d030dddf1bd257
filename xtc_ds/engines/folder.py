"""Checks that a container may be written to a folder."""

from __future__ import annotations

from pathlib import Path

from xtc_ds.checkpoint.export_folder import refuse_unreplaceable
from xtc_ds.errors import ExportError

__all__ = ["check_container_target"]


def check_container_target(target: Path, overwrite: bool) -> None:
    """Raise ExportError if ``target`` (an absolute path) exists and must not be replaced."""
    refuse_unreplaceable(target)
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise ExportError(f"{target} holds files; name another folder, or overwrite to replace all that is in it")
