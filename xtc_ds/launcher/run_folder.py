"""The output folder of a run: checked before anything is computed, and never overwritten accidentally."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtc_ds.errors import DataError
from xtc_ds.launcher.results import write_json

__all__ = ["RunFolder", "choose_folder"]

_MARKER = "run.json"


@dataclass(frozen=True)
class RunFolder:
    """The paths of the parts of a run."""

    path: Path

    @property
    def teacher(self) -> Path:
        """The fine-tuned teacher."""
        return self.path / "teacher"

    @property
    def checkpoints(self) -> Path:
        """DeepSpeed checkpoints of the student."""
        return self.path / "checkpoints"

    @property
    def logits(self) -> Path:
        """The teacher's logits, if the config caches them and names no folder."""
        return self.path / "logits"

    @property
    def packed(self) -> Path:
        """The packed model."""
        return self.path / "packed"

    @property
    def results(self) -> Path:
        """The figures of the run."""
        return self.path / "results.json"

    @property
    def losses(self) -> Path:
        """The student's training loss, step by step."""
        return self.path / "losses.csv"

    def begin(self, settings: dict[str, Any], resume: bool) -> None:
        """Create the folder and save the run's settings; an earlier run is deleted unless it is resumed.

        Raises DataError if the folder cannot be written.
        """
        try:
            if not resume:
                # Delete the results first: a folder without them cannot be mistaken for a finished run.
                self.results.unlink(missing_ok=True)
                self.losses.unlink(missing_ok=True)
                for folder in (self.checkpoints, self.packed, self.teacher, self.logits):
                    shutil.rmtree(folder, ignore_errors=True)
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.path / _MARKER, settings)
        except OSError as error:
            raise DataError(f"--output_dir {self.path} cannot be written: {error.strerror}") from error

    def keep_newest_checkpoint(self) -> None:
        """Delete all checkpoints of this run but the one that DeepSpeed's ``latest`` names."""
        latest = self.checkpoints / "latest"
        if not latest.is_file():
            return
        newest = latest.read_text().strip()
        for folder in self.checkpoints.glob("global_step*"):
            if folder.name != newest:
                shutil.rmtree(folder, ignore_errors=True)


def choose_folder(
    wanted: Path | None,
    default_name: str,
    settings: dict[str, Any],
    resume: bool,
    overwrite: bool,
    teacher: str | None = None,
) -> RunFolder:
    """Choose the folder of this run; nothing is written yet.

    Raises DataError if it holds something that the run would overwrite (also ``teacher``), if there is nothing to
    resume, and if it cannot be written.
    """
    if wanted is None:
        if resume or overwrite:
            flag = "--resume" if resume else "--overwrite_output_dir"
            raise DataError(f"{flag} needs --output_dir, the folder of the run")
        wanted = _free(Path("output") / default_name)
    folder = RunFolder(wanted)
    if wanted.exists() and not wanted.is_dir():
        raise DataError(f"--output_dir {wanted} is a file")
    _check_writable(wanted)
    if resume:
        _check_resumable(folder, settings)
    elif wanted.exists() and any(wanted.iterdir()):
        is_run = (wanted / _MARKER).is_file()
        if not is_run:
            raise DataError(f"--output_dir {wanted} holds files that are not a run's; name another folder")
        if not overwrite:
            raise DataError(f"--output_dir {wanted} holds a run; add --resume or --overwrite_output_dir")
        if teacher is not None and wanted.resolve() in Path(teacher).expanduser().resolve().parents:
            raise DataError(f"--teacher {teacher} lies in the folder that --overwrite_output_dir empties")
    return folder


def _free(folder: Path) -> Path:
    candidate, number = folder, 2
    while candidate.exists():
        candidate = folder.with_name(f"{folder.name}-{number}")
        number += 1
    return candidate


def _check_writable(folder: Path) -> None:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise DataError(f"--output_dir {folder} cannot be made: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise DataError(f"--output_dir {folder} cannot be written: no permission for {there}")


def _check_resumable(folder: RunFolder, settings: dict[str, Any]) -> None:
    try:
        before = json.loads((folder.path / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict):
        raise DataError(f"--output_dir {folder.path} holds no run to resume")
    changed = [key for key in settings if before.get(key) != settings[key]]
    if changed:
        told = "; ".join(_difference(key, before.get(key), settings[key]) for key in changed)
        raise DataError(f"--resume: the run in {folder.path} is another one: {told}")
    if folder.results.is_file():
        raise DataError(f"--resume: the run in {folder.path} is finished; its figures are in {folder.results}")


def _difference(key: str, before: Any, now: Any) -> str:
    if isinstance(now, dict):
        return f"the config's {'compression_training block' if key == 'block' else 'DeepSpeed part'} has changed"
    return f"{key} was {before!r}, is {now!r}"
