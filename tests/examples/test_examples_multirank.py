"""Example configs on two ranks: what ``two_ranks.py`` measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import free_port
from tests.examples import two_ranks

pytestmark = [pytest.mark.multirank, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The figures of both ranks."""
    out = tmp_path_factory.mktemp("examples")
    runner = Path(sys.executable).with_name("deepspeed")
    done = subprocess.run(
        [str(runner), "--num_accelerators", "2", "--master_port", str(free_port()), two_ranks.__file__, str(out)],
        env={**os.environ, "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=out,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", two_ranks.NAMES)
def test_both_ranks_ship_the_same_model(ranks: list[dict[str, Any]], name: str) -> None:
    first, second = (rank[name] for rank in ranks)
    assert first == second


@pytest.mark.usefixtures("single_process_group")
@pytest.mark.parametrize("name", two_ranks.NAMES)
def test_zero_3_on_two_ranks_is_stage_0_on_one(ranks: list[dict[str, Any]], name: str) -> None:
    torch.set_num_threads(1)
    alone = two_ranks.run(name, stage=0, ranks=1)
    assert ranks[0][name]["losses"] == pytest.approx(alone["losses"], abs=1e-4)
    assert ranks[0][name]["shapes"] == alone["shapes"]
