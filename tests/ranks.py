"""Running a script on several ranks of this machine, as a user starts it; and what such a script does itself."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import free_port

ROOT = Path(__file__).parents[1]


def run_ranks(
    script: str | Path, out: Path, *arguments: str, ranks: int = 2, timeout: int = 600
) -> list[dict[str, Any]]:
    """``script OUT *arguments`` under the ``deepspeed`` command; what each rank wrote to ``OUT/rank<N>.json``."""
    runner = Path(sys.executable).with_name("deepspeed")
    launch = [runner, "--num_accelerators", str(ranks), "--master_port", str(free_port())]
    done = subprocess.run(
        [*launch, script, out, *arguments],
        env={**os.environ, "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=out,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(ranks)]


def write_figures(measure: Callable[..., dict[str, Any]]) -> None:
    """The main function of such a script: ``measure(OUT, *arguments)`` on every rank, its result in a file of JSON.

    Ends the process, without what DeepSpeed does at exit.
    """
    import deepspeed
    import torch
    import torch.distributed as dist

    out, *arguments = (argument for argument in sys.argv[1:] if not argument.startswith("--"))
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Gloo works without the extension, and compiling it takes most of a minute.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(verbose=False)
    torch.set_num_threads(1)
    figures = measure(Path(out), *arguments)
    (Path(out) / f"rank{dist.get_rank()}.json").write_text(json.dumps(figures))
    os._exit(0)
