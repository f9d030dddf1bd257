"""The peak memory of one case of ``benchmarks.engine_overhead``, in a process of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.processes import child_environment

__all__ = ["bytes_in_fresh_process", "peak_bytes"]

# What is freed goes back to the system at once, and threads share one heap: else glibc's habits of keeping
# memory differ from run to run by more than the engines do.
_PLAIN_HEAP = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "PYTHONHASHSEED": "0"}


def bytes_in_fresh_process(command: Sequence[str]) -> int:
    """What a process that prints ``{"bytes": ...}`` says."""
    done = subprocess.run(command, env=child_environment(**_PLAIN_HEAP), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return int(json.loads(done.stdout.strip().splitlines()[-1])["bytes"])


def peak_bytes(case: str, shape: Any, stage: int) -> int:
    """Peak of three steps of one case, beyond what this process holds before the model is built."""
    import torch

    from benchmarks.engine_overhead import cases

    cases.start_one_process()
    # The smallest engine first: what is imported at the first use is no part of any case's memory.
    small = cases.Shape(layers=1, hidden=32, batch=1, tokens=4)
    cases.train_step(cases.build_engine(cases.ALL_DISABLED, small, stage), cases.make_batch(small))
    cuda = torch.cuda.is_available()
    before = torch.cuda.memory_allocated() if cuda else _resident("VmRSS")
    engine, batch = cases.build_engine(case, shape, stage), cases.make_batch(shape)
    for _ in range(3):
        cases.train_step(engine, batch)
    return (torch.cuda.max_memory_allocated() if cuda else _resident("VmHWM")) - before


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
