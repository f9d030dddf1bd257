"""The output folder of a run: checked before the work, never overwritten by accident."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtc_ds.errors import DataError
from xtc_launcher.results import write_json

__all__ = ["RunFolder", "choose_folder"]

_MARKER = "run.json"


@dataclass(frozen=True)
class RunFolder:
    """Where the parts of a run lie."""

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
    def packed(self) -> Path:
        """The packed model."""
        return self.path / "packed"

    @property
    def results(self) -> Path:
        """The figures of the run."""
        return self.path / "results.json"

    def begin(self, settings: dict[str, Any]) -> None:
        """Make the folder and note what the run is."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / _MARKER, settings)

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
    wanted: Path | None, default_name: str, settings: dict[str, Any], resume: bool, overwrite: bool
) -> RunFolder:
    """The folder of this run; nothing is written yet.

    Raises DataError where it holds something that the run would overwrite, or nothing to resume.
    """
    if wanted is None:
        if resume:
            raise DataError("--resume needs --output_dir, the folder of the run to go on with")
        wanted = _free(Path("output") / default_name)
    if resume:
        _check_resumable(wanted, settings)
    elif wanted.exists() and not wanted.is_dir():
        raise DataError(f"--output_dir {wanted} is a file")
    elif wanted.exists() and any(wanted.iterdir()) and not (overwrite and (wanted / _MARKER).is_file()):
        if (wanted / _MARKER).is_file():
            raise DataError(f"--output_dir {wanted} holds a run; add --resume or --overwrite_output_dir")
        raise DataError(f"--output_dir {wanted} holds files that are not a run's; name another folder")
    return RunFolder(wanted)


def _free(folder: Path) -> Path:
    candidate, number = folder, 2
    while candidate.exists():
        candidate = folder.with_name(f"{folder.name}-{number}")
        number += 1
    return candidate


def _check_resumable(folder: Path, settings: dict[str, Any]) -> None:
    try:
        before = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"--output_dir {folder} holds no run to resume") from None
    changed = [key for key in settings if before.get(key) != settings[key]]
    if changed:
        told = "; ".join(f"{key} was {before.get(key)!r}, is {settings[key]!r}" for key in changed)
        raise DataError(f"--resume: this is not the same run: {told}")
