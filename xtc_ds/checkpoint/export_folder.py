"""The folder of an export: written atomically, and it replaces nothing but an earlier export."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xtc_ds.atomic import whole_folder
from xtc_ds.errors import ExportError

__all__ = ["export_folder", "refuse_unreplaceable"]


def refuse_unreplaceable(target: Path) -> None:
    """Raise ExportError if ``target`` (absolute) is a file, or is or contains the current working directory."""
    if target.exists() and not target.is_dir():
        raise ExportError(f"{target} is a file; name a folder that does not exist yet")
    if target.is_dir() and Path.cwd().is_relative_to(target.resolve()):
        raise ExportError(f"{target} is or holds the current folder, which cannot be replaced; name another folder")


@contextmanager
def export_folder(target: Path, check: Callable[[Path], object]) -> Iterator[Path]:
    """Context manager: an empty temporary folder that replaces ``target`` when the block ends without an error.

    target: absolute path. check: called with ``target``; raises ExportError if its content must not be replaced.
    Raises ExportError also if the folder cannot be written.
    """
    try:
        check(target)
        with whole_folder(target) as temporary:
            yield temporary
    except OSError as error:
        raise ExportError(f"cannot write {target}: {error}") from error
