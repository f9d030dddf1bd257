"""The benchmark of seconds to a score, at its smallest."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.common.arguments import plot_file
from benchmarks.common.processes import ROOT
from benchmarks.time_to_quality.report import print_table
from tests.launcher.tiny_run import save_glue, save_model


@pytest.mark.slow
def test_a_competitor_trains_until_its_steps_are_over(tmp_path: Path) -> None:
    save_glue(tmp_path / "glue" / "MRPC", "mrpc", train_rows=64)
    teacher, out, image = save_model(tmp_path / "teacher"), tmp_path / "curves.json", tmp_path / "curves.png"
    flags = [
        "--target",
        "1.1",
        "--steps",
        "3",
        "--every",
        "2",
        "--threads",
        "1",
        "--rate",
        "1e-3",
        "--only",
        "here, bf16",
    ]
    with_plot = importlib.util.find_spec("matplotlib") is not None
    drawn = ["--plot", str(image)] if with_plot else []
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.time_to_quality", "--glue", str(tmp_path / "glue"),
         "--teacher", teacher, *flags, "--json", str(out), *drawn],
        env={**os.environ, "XTC_DS_NATIVE": "0"}, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    curves = json.loads(out.read_text())["curves"]
    assert list(curves) == ["here, bf16"]
    curve = curves["here, bf16"]
    assert [point["step"] for point in curve] == [0, 2, 3]
    assert curve[0]["seconds"] == 0 < curve[1]["seconds"] < curve[2]["seconds"]
    assert all(0 <= point["accuracy"] <= 1 for point in curve)
    assert "not reached" in done.stdout
    assert image.exists() == with_plot


def test_a_plot_that_cannot_be_drawn_is_told_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="there is no folder|needs matplotlib"):
        plot_file(str(tmp_path / "nowhere" / "curves.png"))


def test_ratios_are_to_the_last_competitor(capsys: pytest.CaptureFixture[str]) -> None:
    def curve(seconds: float, best: float) -> list[dict[str, float]]:
        return [{"step": 0, "seconds": 0, "accuracy": 0.3}, {"step": 10, "seconds": seconds, "accuracy": best}]

    print_table({"one": curve(20, 0.8), "two": curve(50, 0.7), "last": curve(90, 0.8)}, 0.79, "1")
    print_table({"one": curve(20, 0.8), "last": curve(90, 0.7)}, 0.79, "1")
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "one" in line or "two" in line]
    assert "4.5x" in rows[0]
    assert "not" in rows[1] and not any("x" in cell for cell in rows[1])
    assert rows[2][-3:-1] == [">", "4.5x"]
