"""Write files and folders atomically: to a temporary place beside the target, which is then renamed."""

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
    """Context manager: an empty temporary file that replaces ``target`` when the block ends without an error.

    The file gets the permissions of a normal new file. Raises OSError if it cannot be written; then ``target`` is left
    unchanged.
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
    """Write ``text`` as UTF-8, atomically. Raises OSError if that fails; then ``target`` is left unchanged."""
    with whole_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Context manager: an empty temporary folder that replaces ``target`` when the block ends without an error.

    An existing folder ``target`` is replaced with all its content. The new folder and its files get the permissions of
    normal new ones. Raises OSError if it cannot be written; then ``target`` is left unchanged.
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
    # Only the owner may read temporary folders, and the files that some libraries write.
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
    # The umask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
