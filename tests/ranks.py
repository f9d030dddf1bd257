"""Running a script on several ranks of this machine, as a user starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import free_port

ROOT = Path(__file__).parents[1]


def run_ranks(
    script: str | Path, out: Path, *arguments: str, ranks: int = 2, timeout: int = 600
) -> list[dict[str, Any]]:
    """``script OUT *arguments`` under the ``deepspeed`` command; what each rank wrote to ``OUT/rank<N>.json``."""
    runner = Path(sys.executable).with_name("deepspeed")
    done = subprocess.run(
        [runner, "--num_accelerators", str(ranks), "--master_port", str(free_port()), script, out],
        env={**os.environ, "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=out,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(ranks)]
