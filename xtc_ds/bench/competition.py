"""Runs several engines in alternating rounds and collects the results."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from xtc_ds.bench.engines import ENGINES, FP32_FILE, Engine
from xtc_ds.checkpoint.inspection import inspect_folder
from xtc_ds.errors import ExportError

__all__ = ["Competition", "Result"]

# OpenMP threads may spin briefly between two layers (for torch's engines as for ours), but must not keep spinning while
# another engine is measured.
_SPIN = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "5000"}
_QUIET = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **_SPIN}


@dataclass
class Result:
    """The results of one engine at one batch size. ms: the median of each round. memory, file: in bytes."""

    engine: str
    batch: int
    tokens: int
    file: int
    ms: list[float] = field(default_factory=list)
    memory: int = 0

    @property
    def median(self) -> float:
        """Median time of one call in milliseconds."""
        return statistics.median(self.ms)

    @property
    def spread(self) -> tuple[float, float]:
        """First and third quartile over the rounds, in milliseconds."""
        if len(self.ms) < 2:
            return self.ms[0], self.ms[0]
        low, _, high = statistics.quantiles(self.ms, n=4, method="inclusive")
        return low, high

    def ratio(self, other: Result) -> float:
        """How many times faster this engine is than ``other``: the median of the ratios of each round."""
        return statistics.median(b / a for a, b in zip(self.ms, other.ms, strict=True))


class Competition:
    """Worker processes of the engines ``names`` for a packed ``folder``; a context manager that starts and ends them.

    missing: engines that cannot run, with the packages that are not installed.
    Raises ExportError if an engine fails.
    """

    def __init__(self, folder: Path, names: list[str], threads: int) -> None:
        self.folder, self.threads = folder.absolute(), threads
        self.missing = {name: lacking for name in names if (lacking := ENGINES[name].missing())}
        self.names = [name for name in names if name not in self.missing]
        self._scratch = tempfile.TemporaryDirectory(prefix="xtc-bench-")
        self._workers: dict[str, subprocess.Popen[str]] = {}
        self._logs: dict[str, Path] = {}

    @property
    def peers(self) -> Path:
        """Folder of the files that other engines read."""
        return Path(self._scratch.name)

    def __enter__(self) -> Competition:
        try:
            files = {file for name in self.names if (file := ENGINES[name].file) is not None}
            if files:
                self._write_peers(files)
            for name in self.names:
                self._start(name)
            for name in self.names:
                self._answer(name)  # "ready"
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers.values():
            worker.kill()
            worker.wait()
        self._scratch.cleanup()

    def run(self, batch: int, tokens: int, rounds: int, seconds: float) -> list[Result]:
        """Measure every engine for about ``seconds`` in each round, one engine after the other."""
        results = {name: Result(name, batch, tokens, self.file_bytes(ENGINES[name])) for name in self.names}
        for number in range(-1, rounds):
            # The order is reversed in every other round; the first round is a warm-up.
            for name in self.names[:: -1 if number % 2 else 1]:
                answer = self._ask(name, {"batch": batch, "tokens": tokens, "seconds": seconds if number >= 0 else 0.2})
                if number >= 0:
                    results[name].ms.append(statistics.median(answer["ms"]))
                    results[name].memory = answer["memory"]
        return list(results.values())

    def file_bytes(self, engine: Engine) -> int:
        """Bytes of the file that an engine reads; for torch engines, the size that their checkpoint would have."""
        if engine.file is not None:
            return sum(file.stat().st_size for file in self.peers.glob(f"{engine.file}*"))
        if engine.weight_bytes:
            return inspect_folder(self.folder).dense_bytes * engine.weight_bytes // 4
        return sum(file.stat().st_size for file in self.folder.glob("*.safetensors"))

    def _write_peers(self, files: set[str]) -> None:
        command = [sys.executable, "-m", "xtc_ds.bench.peers", str(self.folder), str(self.peers), *sorted(files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=self._environment())
        if done.returncode:
            raise ExportError(f"the files for ONNX cannot be made: {_last_line(done.stderr)}")
        assert (self.peers / FP32_FILE).exists()

    def _start(self, name: str) -> None:
        command = [
            sys.executable, "-m", "xtc_ds.bench.worker", name, str(self.folder), str(self.peers), str(self.threads)
        ]  # fmt: skip
        log = self._logs[name] = self.peers / f"{name}.log"
        with log.open("w") as stream:
            self._workers[name] = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                env=self._environment(),
            )

    def _ask(self, name: str, order: dict[str, Any]) -> Any:
        stream = self._workers[name].stdin
        assert stream is not None
        try:
            stream.write(json.dumps(order) + "\n")
            stream.flush()
        except BrokenPipeError:
            pass
        return self._answer(name)

    def _answer(self, name: str) -> Any:
        stream = self._workers[name].stdout
        assert stream is not None
        line = stream.readline()
        if not line:
            raise ExportError(f"{ENGINES[name].label} failed: {_last_line(self._logs[name].read_text())}")
        return json.loads(line)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **_QUIET, "OMP_NUM_THREADS": str(self.threads)}


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
