"""The results of a run: ``results.json`` and a table."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from xtc_ds.atomic import write_whole_text
from xtc_ds.launcher.tasks.base import Task

__all__ = ["LossCurve", "results_table", "versions", "write_json"]

_PACKAGES = ("xtc-ds", "torch", "deepspeed", "transformers", "datasets", "safetensors")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that influence the results."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write the file atomically."""
    write_whole_text(file, json.dumps(content, indent=2) + "\n")


class LossCurve:
    """``losses.csv``: the loss of every optimizer step, written immediately.

    start: the last step before a resumed run; rows up to it are kept.
    """

    def __init__(self, file: Path, start: int) -> None:
        before = file.read_text(encoding="utf-8").splitlines() if start and file.is_file() else []
        kept = [row for row in before[1:] if int(row.split(",")[0]) <= start]
        file.write_text("\n".join(["step,loss", *kept, ""]), encoding="utf-8")
        self.file = file

    def add(self, step: int, loss: float) -> None:
        with self.file.open("a", encoding="utf-8") as rows:
            rows.write(f"{step},{loss:.8g}\n")


def results_table(results: dict[str, Any], task: Task) -> RenderableType:
    """Scores, layers and sizes of teacher and student, side by side."""
    teacher, student, size = results["teacher"], results["student"], results["bytes"]
    table = Table(title=f"{results['task']}: before and after", title_justify="left")
    table.add_column("")
    table.add_column("teacher", justify="right")
    table.add_column("student", justify="right")
    for name in student:
        if name != "headline" and name in teacher:
            table.add_row(name, task.format_score(name, teacher[name]), task.format_score(name, student[name]))
    table.add_row("layers", str(results["layers"]["teacher"]), str(results["layers"]["student"]))
    table.add_row("file, MB (1e6 bytes)", f"{size['dense'] / 1e6:.2f}", f"{size['packed'] / 1e6:.2f}")
    table.add_row("smaller by", "1.0x", f"{results['compression_ratio']:.1f}x")
    return table
