"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xtc_ds.errors import ExportError

__all__ = ["refuse_unreplaceable", "whole_folder"]


def refuse_unreplaceable(target: Path) -> None:
    """Raise ExportError where a file, or the current folder, lies at ``target`` (absolute)."""
    if target.exists() and not target.is_dir():
        raise ExportError(f"{target} is a file; name a folder that does not exist yet")
    if target.is_dir() and Path.cwd().is_relative_to(target.resolve()):
        raise ExportError(f"{target} is or holds the current folder, which cannot be replaced; name another folder")


@contextmanager
def whole_folder(target: Path, check: Callable[[Path], object]) -> Iterator[Path]:
    """A new, empty folder to write to; it takes the place of ``target`` when the block ends without an error.

    target: absolute. check: raises ExportError where something lies at ``target`` that must not be replaced.
    Raises ExportError too where the folder cannot be written.
    """
    try:
        check(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            yield temporary
            _share(temporary)
            _replace(target, temporary)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise ExportError(f"cannot write {target}: {error}") from error


def _share(folder: Path) -> None:
    # Temporary folders, and the files of some libraries, are their owner's alone.
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)
    for file in folder.rglob("*"):
        file.chmod((0o777 if file.is_dir() else 0o666) & ~mask)


def _replace(target: Path, temporary: Path) -> None:
    if not target.exists():
        temporary.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    try:
        target.rename(old / target.name)
        try:
            temporary.rename(target)
        except OSError:
            (old / target.name).rename(target)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
