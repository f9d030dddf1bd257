"""The training benchmarks at their smallest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.common.processes import ROOT


@pytest.mark.slow
@pytest.mark.long
def test_cases_take_their_steps_in_turn(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.train_step", "--shape", "tiny", "--rounds", "2", "--threads", "1",
            "--cases", "w1a8.bf16.kd.bf16teacher,torchao", "--profile", "w1a8.bf16.kd.bf16teacher", "--json", str(out),
        ],
        cwd=ROOT,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert out.is_file(), done.stderr[-3000:]
    rows = {row["case"]: row for row in json.loads(out.read_text())["rows"]}
    assert rows["plain"]["to_fp32"] == rows["plain.bf16"]["to_bf16"] == 1
    assert rows["w1a8.bf16.kd.bf16teacher"]["seconds"] > 0
    assert "where a step goes" in " ".join(done.stdout.split())
    assert "w1a8" in done.stdout
