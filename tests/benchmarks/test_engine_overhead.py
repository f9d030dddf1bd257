"""The overhead benchmark at its smallest, and what keeps the overhead small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from deepspeed import DeepSpeedEngine

import xtc_ds
from benchmarks.common.processes import ROOT
from tests import tiny

COMMAND = (sys.executable, "-m", "benchmarks.engine_overhead")
TINY = ("--layers", "1", "--hidden", "32", "--batch", "2", "--tokens", "4", "--steps", "2", "--pairs", "3")


@pytest.mark.slow
def test_every_case_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [*COMMAND, *TINY, "--warmup", "1", "--no_memory", "--json", str(out)]
    done = subprocess.run(
        command, env=_environment(), cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert out.is_file(), done.stderr[-3000:]
    rows = {row["case"]: row for row in json.loads(out.read_text())["rows"]}
    for case, row in rows.items():
        assert not row["unavailable"], f"{case}: {row['unavailable']}"
        assert row["median"] > 0
        assert row["interval"][0] <= row["ratio"] <= row["interval"][1]
    assert rows["plain DeepSpeed"]["ratio"] == 1
    assert rows["all disabled"]["pairs"] == 5
    assert "all disabled: " in done.stdout


@pytest.mark.slow
def test_memory_of_one_case() -> None:
    # Large enough to need more than what the process has freed before.
    size = ["--layers", "2", "--hidden", "256"]
    command = [*COMMAND, *TINY, *size, "--memory_of", "kd, logits"]
    done = subprocess.run(
        command, env=_environment(), cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.strip().splitlines()[-1])["bytes"] > 4e6


@pytest.mark.usefixtures("single_process_group")
def test_with_everything_off_a_step_walks_through_the_modules_as_often_as_deepspeeds_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny.tiny_model(layers=1)
    off = {"weight_quantization": {"shared_parameters": {"enabled": False}, "different_groups": {}}}
    config = tiny.ds_config(off, zero_allow_untested_optimizer=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    engine, *_ = xtc_ds.initialize(model=model, config=config, optimizer=optimizer)
    walks = 0
    named_modules = engine.module.named_modules

    def walk(*arguments: Any, **named: Any) -> Any:
        nonlocal walks
        walks += 1
        return named_modules(*arguments, **named)

    monkeypatch.setattr(engine.module, "named_modules", walk)  # modules() goes through it too
    counts = []
    for step in (engine.step, lambda: DeepSpeedEngine.step(engine)):
        engine.backward(engine(**tiny.batch()).loss)
        walks = 0
        step()
        counts.append(walks)
    assert counts[0] == counts[1] > 0
    assert engine.xtc.schedule.step == 1
    assert engine.global_steps == 2


def _environment() -> dict[str, str]:
    ranks = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {key: value for key, value in os.environ.items() if key not in ranks}
    return {**kept, "PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu"}
