"""One case in a process of its own: answers each line of its input with one step's seconds, as JSON."""

from __future__ import annotations

import ctypes
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

__all__: list[str] = []

# Of glibc's mallopt: from which size on memory is mapped, and how much free memory is kept at the heap's end.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def main() -> None:
    """Read the task from the first line and say what a step takes of memory; then a number is the batch to step on."""
    task: dict[str, Any] = json.loads(sys.stdin.readline())
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print what they like

    def answer(what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    import torch

    from benchmarks.train_step.cases import Case, build_step
    from benchmarks.train_step.models import SHAPES, make_batch

    torch.set_num_threads(task["threads"])
    case, shape = Case(task["case"]), SHAPES[task["shape"]]
    _return_freed_memory(at_once=True)
    try:
        # The smallest model first: what is imported or built at first use is no part of the case's memory.
        tiny = SHAPES["tiny"]
        build_step(case, tiny)[0](make_batch(tiny, [tiny.tokens or 1] * tiny.batch, 0))
        before = _resident("VmRSS")
        step, model = build_step(case, shape)
    except Exception as error:
        if case.method not in ("deepspeed", "torchao"):
            raise
        missing = isinstance(error, ModuleNotFoundError)
        said = (str(error) or type(error).__name__).splitlines()[0]
        answer({"unavailable": "not installed" if missing else said})
        return
    batches = [make_batch(shape, lengths, number) for number, lengths in enumerate(task["lengths"])]
    answer({"bytes": _peak(step, max(batches, key=lambda batch: batch["input_ids"].numel())) - before})
    _return_freed_memory(at_once=False)
    for line in sys.stdin:
        if line.strip() == "profile":
            from benchmarks.train_step.profile import profile_step

            middle = batches[len(batches) // 2]
            answer({"table": profile_step(step, middle, model, set(case.name.split(".")))})
        else:
            batch = batches[int(line)]
            began = time.perf_counter()
            loss = step(batch)
            answer({"seconds": time.perf_counter() - began, "loss": loss})


def _return_freed_memory(at_once: bool) -> None:
    """Whether freed memory goes back to the system at once, or is kept for the next step as glibc comes to do.

    What it keeps are also the holes between what is alive, which differ from run to run and are no need of the case.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 16 if at_once else 1 << 25)
        libc.mallopt(_M_TRIM_THRESHOLD, 1 << 16 if at_once else 1 << 26)


def _peak(step: Any, batch: Any) -> int:
    """What the process holds at most in a step, bytes."""
    step(batch)  # the optimizer makes its state
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    step(batch)
    return _resident("VmHWM")


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    main()
