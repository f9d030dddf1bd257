"""Step time and peak memory of plain DeepSpeed, of the engine with everything off, and of each technique.

    python -m benchmarks.engine_overhead

Times: all engines live in one process and take single steps in turn, so that all see the same load of the
machine; the ratio to plain DeepSpeed is the median over pairs of neighbouring steps, with a bootstrap interval.
Memory: a fresh process for each case, its peak beyond what it holds before the model is built (CPU: the
kernel's high-water mark of resident memory; CUDA: ``max_memory_allocated``). MB = 1e6 bytes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.common.arguments import argument_parser
from benchmarks.common.paired import paired_ratio
from benchmarks.engine_overhead.memory import bytes_in_fresh_process, peak_bytes

__all__ = ["main"]

GOAL = 1.01  # of all disabled, against plain DeepSpeed


@dataclass
class Figures:
    """One row. Seconds of a step; ``interval`` is the 95 % interval of ``ratio``; bytes of peak memory."""

    case: str
    median: float = float("nan")
    spread: tuple[float, float] = (float("nan"), float("nan"))
    ratio: float = float("nan")
    interval: tuple[float, float] = (float("nan"), float("nan"))
    pairs: int = 0
    memory: int = 0
    unavailable: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if the engine with everything off is certainly slower than the goal."""
    arguments = _parse(argv)
    warnings.simplefilter("ignore")
    # Read when torch is imported.
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.disable(logging.WARNING)
    if arguments.memory_of:
        print(json.dumps({"bytes": peak_bytes(arguments.memory_of, _shape(arguments), arguments.stage)}))
        return 0
    console = Console(stderr=True)
    rows = _times(arguments, console)
    if not arguments.no_memory:
        _memories(rows, arguments, console)
    _print_table(rows, arguments)
    if arguments.json:
        content = {"arguments": vars(arguments), "cores": os.cpu_count(), "rows": [asdict(row) for row in rows]}
        Path(arguments.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return int(rows[1].interval[0] > GOAL)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argument_parser("benchmarks.engine_overhead", __doc__)
    add = parser.add_argument
    add("--layers", type=int, default=4)
    add("--hidden", type=int, default=128, help="default: 128")
    add("--batch", type=int, default=8)
    add("--tokens", type=int, default=32)
    add("--stage", type=int, default=0, choices=(0, 1, 2, 3), help="ZeRO stage; default: 0")
    add("--steps", type=int, default=40, help="measured steps of every case; default: 40")
    add("--pairs", type=int, default=600, help="more steps of plain DeepSpeed against all disabled; default: 600")
    add("--warmup", type=int, default=5, help="steps before the measured ones; default: 5")
    add("--threads", type=int, default=1, help="CPU threads; default: 1, which other work disturbs least")
    add("--no_memory", action="store_true", help="times only")
    add("--json", metavar="FILE", help="write all figures there too")
    add("--memory_of", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _shape(arguments: argparse.Namespace) -> Any:
    from benchmarks.engine_overhead.cases import Shape

    return Shape(arguments.layers, arguments.hidden, arguments.batch, arguments.tokens)


def _times(arguments: argparse.Namespace, console: Console) -> list[Figures]:
    from benchmarks.engine_overhead import cases

    cases.start_one_process()
    rows, batch = [Figures(case) for case in cases.CASES], cases.make_batch(_shape(arguments))
    measured: list[dict[str, float]] = []
    with Progress(console=console, transient=True) as progress:
        engines = _engines(progress.track(rows, description="engines"), arguments)

        def pair(name: str, number: int) -> None:
            # Turned round every time: neither always runs first.
            order = [cases.PLAIN, name][:: 1 - 2 * (number % 2)]
            measured.append({case: _seconds(cases.train_step, engines[case], batch) for case in order})

        for number in progress.track(range(arguments.pairs), description="plain and all disabled"):
            pair(cases.ALL_DISABLED, number)
        for number in progress.track(range(arguments.steps), description="all in turn"):
            for name in engines:
                if name != cases.PLAIN:
                    pair(name, number)
    for row in rows:
        if not row.unavailable:
            _summarize(row, cases.PLAIN, measured)
    return rows


def _engines(rows: Iterable[Figures], arguments: argparse.Namespace) -> dict[str, Any]:
    """The engines by case, warm. A technique that is refused is noted in its row."""
    from benchmarks.engine_overhead import cases

    engines = {}
    shape = _shape(arguments)
    batch = cases.make_batch(shape)
    for row in rows:
        try:
            engine = cases.build_engine(row.case, shape, arguments.stage)
            for _ in range(arguments.warmup):
                cases.train_step(engine, batch)
        except Exception as error:
            if row.case in (cases.PLAIN, cases.ALL_DISABLED):
                raise
            row.unavailable = (str(error).strip().splitlines() or [type(error).__name__])[0]
        else:
            engines[row.case] = engine
    return engines


def _seconds(work: Callable[..., None], *arguments: Any) -> float:
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


def _summarize(row: Figures, plain: str, measured: list[dict[str, float]]) -> None:
    mine = [times for times in measured if row.case in times]
    seconds = np.array([times[row.case] for times in mine])
    row.pairs, row.median = len(seconds), float(np.median(seconds))
    row.spread = tuple(float(value) for value in np.quantile(seconds, (0.25, 0.75)))  # type: ignore[assignment]
    row.ratio, *interval = paired_ratio(seconds, [times[plain] for times in mine])
    row.interval = interval[0], interval[1]


def _memories(rows: list[Figures], arguments: argparse.Namespace, console: Console) -> None:
    names = ("layers", "hidden", "batch", "tokens", "stage", "threads")
    flags = [f"--{name}={getattr(arguments, name)}" for name in names]

    command = [sys.executable, "-m", "benchmarks.engine_overhead"]

    def measure(row: Figures) -> None:
        row.memory = bytes_in_fresh_process([*command, "--memory_of", row.case, *flags])

    measured = [row for row in rows if not row.unavailable]
    # Two at once: most of their time goes into imports, and memory does not depend on the load.
    with Progress(console=console, transient=True) as progress, ThreadPoolExecutor(2) as pool:
        for _ in progress.track(pool.map(measure, measured), total=len(measured), description="memory"):
            pass


def _print_table(rows: list[Figures], arguments: argparse.Namespace) -> None:
    size = f"{arguments.layers} layers, hidden {arguments.hidden}, batch {arguments.batch} x {arguments.tokens}"
    table = Table(title=f"{size}, ZeRO {arguments.stage}", title_justify="left")
    for column in ("", "step, ms", "middle half, ms", "time / plain", "95 %", "pairs", "peak, MB", "memory / plain"):
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        if row.unavailable:
            continue
        low, high = (f"{1e3 * value:.1f}" for value in row.spread)
        interval = f"{row.interval[0]:.3f} to {row.interval[1]:.3f}"
        cells = [f"{1e3 * row.median:.1f}", f"{low} to {high}", f"{row.ratio:.3f}", interval, str(row.pairs)]
        if row.memory:
            cells += [f"{row.memory / 1e6:.1f}", f"{row.memory / rows[0].memory:.3f}"]
        table.add_row(row.case, *cells)
    console = Console()
    (console if console.is_terminal else Console(width=130)).print(table)
    for row in rows:
        if row.unavailable:
            print(f"{row.case}: not available: {row.unavailable}")
    least, most = rows[1].interval
    verdict = "within" if most <= GOAL else "above" if least > GOAL else "not certainly within (measure more pairs)"
    print(f"all disabled: {verdict} 1 % of plain DeepSpeed")


if __name__ == "__main__":
    sys.exit(main())
