"""Two processes: all ZeRO stages and DDP give the same distillation losses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.multirank
@pytest.mark.slow
def test_losses_agree_across_zero_stages_and_ddp(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    output = tmp_path / "losses.json"
    runner = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_accelerators", "2", "--master_port", str(port)]
    here = Path(__file__).parent
    # The runner exports PYTHONPATH to the processes it starts.
    paths = os.pathsep.join([str(here), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run(
        [*runner, str(here / "distillation_worker.py"), str(output)],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert output.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    losses = json.loads(output.read_text())
    assert losses["zero0"][0] != pytest.approx(losses["zero0"][2], rel=1e-4)  # it trains
    for name, values in losses.items():
        assert values == pytest.approx(losses["zero0"], rel=1e-4), name
