"""Files and folders that appear whole or not at all: they are written beside their place and then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["whole_file", "whole_folder", "write_whole_text"]


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A new, empty file to write to; it takes the place of ``target`` when the block ends without an error.

    The file has the permissions of any new file. Raises OSError where it cannot be written; what lay at ``target``
    stays then.
    """
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole_text(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8. Raises OSError where the file cannot be written; what lay at ``target`` stays then."""
    with whole_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A new, empty folder to write to; it takes the place of ``target`` when the block ends without an error.

    A folder that lies at ``target`` is replaced, with all that is in it. The new one and its files have the
    permissions of any new ones. Raises OSError where it cannot be written; what lay at ``target`` stays then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield temporary
        _share(temporary)
        _put_in_place(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _share(folder: Path) -> None:
    # Temporary folders, and the files of some libraries, are their owner's alone.
    mask = _umask()
    folder.chmod(0o777 & ~mask)
    for file in folder.rglob("*"):
        file.chmod((0o777 if file.is_dir() else 0o666) & ~mask)


def _put_in_place(temporary: Path, target: Path) -> None:
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


def _umask() -> int:
    # It can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
