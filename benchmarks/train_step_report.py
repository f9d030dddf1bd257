"""Tables and bars of ``train_step.py``."""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["Row", "epoch_line", "print_profile", "print_table", "save_plot"]

_NAN = float("nan")


@dataclass
class Row:
    """One case. Median seconds of a step, and the least; ratios to plain fp32 and plain bf16; bytes of peak memory."""

    case: str
    seconds: float = _NAN
    least: float = _NAN
    mean: float = _NAN
    mean_to_fp32: float = _NAN
    to_fp32: float = _NAN
    to_bf16: float = _NAN
    memory: int = 0
    unavailable: str = ""

    def summarize(self, rounds: list[dict[str, float]], plain: tuple[str, str]) -> None:
        """Fill in the times from the rounds."""
        times = [times[self.case] for times in rounds if self.case in times]
        if not times:
            return
        self.seconds, self.least, self.mean = median(times), min(times), sum(times) / len(times)
        self.mean_to_fp32 = sum(times) / sum(r[plain[0]] for r in rounds)
        self.to_fp32, self.to_bf16 = (median(r[self.case] / r[case] for r in rounds) for case in plain)


def print_table(rows: list[Row], arguments: argparse.Namespace) -> None:
    """The table, on standard output."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    table = Table(title=f"{arguments.shape}, {arguments.threads} threads, load {load}", title_justify="left")
    for column in ("case", "step, ms", "least, ms", "/ fp32", "/ bf16", "peak, MB", "memory / fp32"):
        table.add_column(column, justify="left" if column == "case" else "right")
    whole = next((row.memory for row in rows if row.case == "plain"), 0)
    for row in rows:
        if row.unavailable:
            table.add_row(row.case, row.unavailable)
            continue
        memory = (f"{row.memory / 1e6:.0f}", f"{row.memory / whole:.2f}") if row.memory and whole else ("", "")
        times = (f"{1e3 * row.seconds:.0f}", f"{1e3 * row.least:.0f}", f"{row.to_fp32:.2f}", f"{row.to_bf16:.2f}")
        table.add_row(row.case, *times, *memory)
    _console().print(table)


def epoch_line(rows: list[Row], arguments: argparse.Namespace, examples: int) -> dict[str, float]:
    """Seconds of an epoch of MRPC by case: batches by length, and (the last row) all padded to 128."""
    padded = next((row for row in rows if ":" in row.case and not row.unavailable), None)
    if padded is None:
        return {}
    steps = math.ceil(examples / 32)
    # As multiples of plain steps, since not all cases were measured side by side.
    plain = next(row for row in rows if row.case == "plain").mean
    epochs = {row.case: steps * plain * row.mean_to_fp32 for row in rows if not row.unavailable}
    _console().print(f"an epoch of MRPC, {padded.case.rpartition(':')[2]} padded to 128: {epochs[padded.case]:.0f} s")
    for name, seconds in epochs.items():
        if name != padded.case:
            _console().print(f"  {name:26} {seconds:7.0f} s  {epochs[padded.case] / seconds:.1f}x less")
    return epochs


def print_profile(case: str, table: list[Any]) -> None:
    """Operators by their own time."""
    shown = Table(title=f"{case}: operators by their own time", title_justify="left")
    for column in ("operator", "ms a step", "calls"):
        shown.add_column(column, justify="left" if column == "operator" else "right")
    for name, milliseconds, calls in table:
        shown.add_row(name, f"{milliseconds:.1f}", str(calls))
    _console().print(shown)


def save_plot(rows: list[Row], target: Path) -> None:
    """Step times and memory as bars. Raises SystemExit without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install 'xtc-ds[benchmarks]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    known = [row for row in rows if not row.unavailable and ":" not in row.case][::-1]
    figure, axes = pyplot.subplots(1, 2, sharey=True, figsize=(10, 1 + 0.3 * len(known)))
    names = [row.case for row in known]
    for axis, values, label in (
        (axes[0], [1e3 * row.seconds for row in known], "step, ms"),
        (axes[1], [row.memory / 1e6 for row in known], "peak memory, MB"),
    ):
        axis.barh(names, values)
        axis.set_xlabel(label)
    figure.tight_layout()
    figure.savefig(target)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=120)
