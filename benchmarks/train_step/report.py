"""Tables and bars of ``benchmarks.train_step``."""

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

__all__ = ["Row", "print_epoch", "print_profile", "print_table", "save_plot"]

_NAN = float("nan")
_BATCH = 32


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


def print_epoch(rows: list[Row], examples: int) -> dict[str, float]:
    """Seconds of an epoch of MRPC by case, and how many times less that is than with all batches padded to 128.

    A case that distils is compared with a padded one that distils, where there is one.
    """
    padded = {row.case.rpartition(":")[2]: row for row in rows if ":" in row.case and not row.unavailable}
    if not padded:
        return {}
    # As multiples of plain steps, since not all cases were measured side by side.
    plain = next(row for row in rows if row.case == "plain").mean * math.ceil(examples / _BATCH)
    epochs = {row.case: plain * row.mean_to_fp32 for row in rows if not row.unavailable}
    table = Table(title="an epoch of MRPC; how many times less than with all padded to 128", title_justify="left")
    for column in ("case", "s", *(f"{name} padded" for name in padded)):
        table.add_column(column, justify="left" if column == "case" else "right")
    for name, seconds in epochs.items():
        both = [_alike(name, rival) for rival in padded]
        less = [
            f"{epochs[row.case] / seconds:.1f}x" if fair else ""
            for row, fair in zip(padded.values(), both, strict=True)
        ]
        table.add_row(name, f"{seconds:.0f}", *([""] * len(less) if ":" in name else less))
    _console().print(table)
    return epochs


def _alike(case: str, rival: str) -> bool:
    return (".kd" in case) == (".kd" in rival) or rival == "plain"


def print_profile(case: str, table: list[Any]) -> None:
    """Kinds of work by their own time."""
    shown = Table(title=f"{case}: where a step goes", title_justify="left")
    for column in ("work", "ms a step", "calls", "limit, ms"):
        shown.add_column(column, justify="left" if column == "work" else "right")
    for name, milliseconds, calls, least in table:
        shown.add_row(name, f"{milliseconds:.1f}", str(calls), "" if least is None else f"{least:.0f}")
    _console().print(shown)


def save_plot(rows: list[Row], shape: str, target: Path) -> None:
    """Step time and memory as bars, as shares of plain fp32."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    known = [row for row in rows if not row.unavailable and ":" not in row.case][::-1]
    whole = next(row for row in known if row.case == "plain").memory or 1
    figure, axes = pyplot.subplots(1, 2, sharey=True, figsize=(11, 1.2 + 0.3 * len(known)))
    for axis, values, label in (
        (axes[0], [row.to_fp32 for row in known], "step / plain fp32"),
        (axes[1], [row.memory / whole for row in known], "peak memory / plain fp32"),
    ):
        bars = axis.barh([row.case for row in known], values, color=[_color(row.case) for row in known])
        axis.bar_label(bars, fmt="%.2f", padding=2)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_xlabel(label)
        axis.margins(x=0.12)
    figure.suptitle(shape)
    figure.tight_layout()
    figure.savefig(target)


def _color(case: str) -> str:
    method = case.split(".")[0]
    return {"plain": "tab:gray", "deepspeed": "tab:red", "torchao": "tab:orange"}.get(method, "tab:blue")


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=120)
