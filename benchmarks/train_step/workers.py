"""The processes of ``benchmarks.train_step``, and the lengths of the batches they train on."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.common.processes import child_environment
from benchmarks.train_step.models import SHAPES, spread_lengths

__all__ = ["Worker", "sample_lengths", "start"]

# One heap: how much each holds back would differ from run to run.
_HEAP = {"MALLOC_ARENA_MAX": "1", "PYTHONHASHSEED": "0", "DS_ACCELERATOR": "cpu", "TOKENIZERS_PARALLELISM": "false"}


class Worker:
    """A process that takes steps when told to."""

    def __init__(self, python: str, task: dict[str, Any]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe that nobody reads would fill up
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.train_step.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env=child_environment(**_HEAP),
        )  # fmt: skip
        self._say(json.dumps(task))

    def ask(self, line: str) -> dict[str, Any]:
        """Its answer. Raises SystemExit with the end of what it printed if it died."""
        self._say(line)
        return self.hear()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # then there is no answer either
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The next answer: the first one says whether it is ready. Raises as ``ask``."""
        assert self._process.stdout is not None
        try:
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except ValueError:
            self._process.communicate()
            self._errors.seek(0)
            ended = f"a worker ended with {self._process.returncode}"
            raise SystemExit(f"{ended}:\n{self._errors.read()[-3000:]}") from None
        return answer

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def start(case: str, shape: str, lengths: list[list[int]], threads: int, environment: str | None) -> Worker:
    """A worker that is getting ready: its first answer is ``{"bytes": peak}``, or "unavailable" and why."""
    python = str(Path(environment) / "bin" / "python") if environment else sys.executable
    return Worker(python, {"case": case, "shape": shape, "lengths": lengths, "threads": threads})


def sample_lengths(shape_name: str, count: int, glue: str | None) -> list[list[int]]:
    """Tokens of the rows of ``count`` batches, spread evenly over an epoch's batches from short to long."""
    shape = SHAPES[shape_name]
    if shape.tokens is not None:
        return [[shape.tokens] * shape.batch]
    batches = sorted(_epoch(glue, shape.batch), key=max)
    return [batches[int((i + 0.5) * len(batches) / count)] for i in range(count)]


def _epoch(glue: str | None, size: int) -> list[list[int]]:
    from xtc_ds.launcher.batching import LengthGroupedBatchSampler

    lengths = spread_lengths(3668) if glue is None else _mrpc(glue)
    return [[lengths[row] for row in batch] for batch in LengthGroupedBatchSampler(lengths, size)]


def _mrpc(folder: str) -> list[int]:
    from transformers import AutoTokenizer

    from xtc_ds.launcher import encode
    from xtc_ds.launcher.models import demo_model_path
    from xtc_ds.launcher.tasks import load_task

    tokenizer = AutoTokenizer.from_pretrained(demo_model_path())
    return encode(tokenizer, load_task("mrpc", folder).train, 128).lengths
