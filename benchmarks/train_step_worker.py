"""One case in a process of its own: answers each line of its input with one step's seconds, as JSON."""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

__all__: list[str] = []


def main() -> None:
    """Read the task from the first line; then a number is the batch to step on, "memory" asks for the peak."""
    task: dict[str, Any] = json.loads(sys.stdin.readline())
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print what they like

    def answer(what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    import torch
    from train_step_cases import Case, build_step
    from train_step_models import SHAPES, make_batch

    torch.set_num_threads(task["threads"])
    case, shape = Case(task["case"]), SHAPES[task["shape"]]
    try:
        # The smallest model first: what is imported or built at first use is no part of the case's memory.
        tiny = SHAPES["tiny"]
        build_step(case, tiny)(make_batch(tiny, [tiny.tokens or 1] * tiny.batch, 0))
        before = _resident("VmRSS")
        step = build_step(case, shape)
    except Exception as error:
        if case.method not in ("deepspeed", "torchao"):
            raise
        answer({"unavailable": (str(error) or type(error).__name__).splitlines()[0]})
        return
    batches = [make_batch(shape, lengths, number) for number, lengths in enumerate(task["lengths"])]
    answer({"ready": True})
    for line in sys.stdin:
        if line.strip() == "memory":
            answer({"bytes": _resident("VmHWM") - before})
        elif line.strip().startswith("profile"):
            answer({"table": _profile(step, batches[len(batches) // 2], int(line.split()[1]))})
        else:
            batch = batches[int(line)]
            began = time.perf_counter()
            loss = step(batch)
            answer({"seconds": time.perf_counter() - began, "loss": loss})


def _profile(step: Any, batch: Any, rows: int) -> list[tuple[str, float, int]]:
    """The operators that take the most time by themselves: (name, ms a step, calls a step)."""
    from torch.profiler import ProfilerActivity, profile

    steps = 5
    with profile(activities=[ProfilerActivity.CPU]) as run:
        for _ in range(steps):
            step(batch)
    events = sorted(run.key_averages(), key=lambda event: -event.self_cpu_time_total)
    return [(e.key, e.self_cpu_time_total / 1000 / steps, round(e.count / steps)) for e in events[:rows]]


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    main()
