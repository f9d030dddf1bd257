"""The table and the plot of ``benchmarks.time_to_quality``."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

__all__ = ["Curve", "plot", "print_table"]

# A point per evaluation: "step", "seconds" of training until then, and "accuracy" on the dev set.
Curve = list[dict[str, float]]


def print_table(results: dict[str, Curve], target: float, weights: str) -> None:
    """A row per competitor; the ratio is to the last one's seconds to the target."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    title = f"MRPC, {weights}-bit weights, 8-bit inputs: dev accuracy {100 * target:.1f} (load {load})"
    table = Table(title=title, title_justify="left")
    for column in ("", "seconds to the target", "steps", "best", "seconds in all", "s a step", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    times = {name: _reached(curve, target) for name, curve in results.items()}
    last = list(results)[-1]
    for name, curve in results.items():
        there, end = times[name], curve[-1]
        seconds, steps = (f"{there['seconds']:.0f}", f"{there['step']:.0f}") if there else ("not reached", "")
        best = max(point["accuracy"] for point in curve)
        each = end["seconds"] / max(1, end["step"])
        ratio = _ratio(there, times[last], results[last])
        table.add_row(name, seconds, steps, f"{100 * best:.1f}", f"{end['seconds']:.0f}", f"{each:.2f}", ratio)
    console = Console()
    (console if console.is_terminal else Console(width=110)).print(table)


def plot(results: dict[str, Curve], target: float, file: Path) -> None:
    """Dev accuracy against seconds of training, as the image ``file``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="seconds of training", ylabel="dev accuracy on MRPC, %")
    for name, curve in results.items():
        percent = [100 * point["accuracy"] for point in curve]
        axes.plot([point["seconds"] for point in curve], percent, label=name, marker=".")
    axes.axhline(100 * target, color="grey", linestyle="--", label="target")
    axes.legend()
    figure.savefig(file, dpi=150)


def _reached(curve: Curve, target: float) -> dict[str, float] | None:
    return next((point for point in curve if point["accuracy"] >= target), None)


def _ratio(there: dict[str, float] | None, last: dict[str, float] | None, curve: Curve) -> str:
    """How many times less a competitor takes than the last; at least so many where the last did not get there."""
    if there is None or there["seconds"] == 0:
        return ""
    if last is None:
        return f"> {curve[-1]['seconds'] / there['seconds']:.1f}x"
    return f"{last['seconds'] / there['seconds']:.1f}x"
