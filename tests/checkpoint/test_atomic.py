"""Files and folders appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xtc_ds.atomic import whole_file, whole_folder, write_whole_text


def test_a_file_is_there_once_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "results.json"
    with whole_file(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    before = os.umask(0)
    os.umask(before)
    assert target.stat().st_mode & 0o777 == 0o666 & ~before
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "results.json"
    write_whole_text(target, "old")
    with pytest.raises(KeyboardInterrupt):
        _interrupted(target)
    assert target.read_text() == "old"
    with pytest.raises(UnicodeEncodeError):
        write_whole_text(target, "\ud800")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(FileNotFoundError):
        write_whole_text(tmp_path / "missing" / "results.json", "new")


def test_a_folder_is_replaced_as_a_whole_or_stays(tmp_path: Path) -> None:
    target = tmp_path / "runs" / "teacher"
    with whole_folder(target) as temporary:
        (temporary / "a").write_text("1")
    with pytest.raises(KeyboardInterrupt):
        _interrupted_folder(target)
    assert [file.name for file in target.iterdir()] == ["a"]
    with whole_folder(target) as temporary:
        (temporary / "b").write_text("2")
    assert [file.name for file in target.iterdir()] == ["b"]
    assert list(target.parent.iterdir()) == [target]


def _interrupted(target: Path) -> None:
    with whole_file(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def _interrupted_folder(target: Path) -> None:
    with whole_folder(target) as temporary:
        (temporary / "b").write_text("2")
        raise KeyboardInterrupt
