"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xtc_ds.errors import ExportError

__all__ = ["check_target", "whole_folder"]


def check_target(folder: Path, overwrite: bool) -> Path:
    """The absolute path. Raises ExportError where something lies there that must not be replaced."""
    target = Path(os.path.abspath(folder))
    if target.exists() and not target.is_dir():
        raise ExportError(f"{folder} is a file; name a folder")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise ExportError(f"{folder} holds files; name another folder, or overwrite to replace all that is in it")
    if target.is_dir() and Path.cwd().is_relative_to(target.resolve()):
        raise ExportError(f"{folder} is or holds the current folder, which cannot be replaced; name another folder")
    return target


@contextmanager
def whole_folder(folder: Path, overwrite: bool = False) -> Iterator[Path]:
    """A new, empty folder to write to; it takes the place of ``folder`` when the block ends without an error.

    Raises ExportError where ``folder`` cannot be written, or holds files and ``overwrite`` is false.
    """
    target = check_target(folder, overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            yield temporary
            _share(temporary)
            _replace(target, temporary)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise ExportError(f"cannot write {folder}: {error}") from error


def _share(folder: Path) -> None:
    # Temporary folders, and the files of some libraries, are their owner's alone.
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)
    for file in folder.iterdir():
        file.chmod(0o666 & ~mask)


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
