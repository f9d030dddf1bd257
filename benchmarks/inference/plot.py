"""Size of the file against time, a point for each engine and depth.

python -m benchmarks.inference.plot FIGURES.json PLOT.png

draws again what ``benchmarks.inference encoder --json FIGURES.json`` has measured. Needs matplotlib.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.common.arguments import argument_parser

__all__ = ["plot"]

# Colour and size of a point; ours stand out.
OURS = {"fused": "#c1121f", "packed": "#f3722c", "unpacked": "#f9b361"}
PEERS = {
    "torch-fp32": "#7b2cbf", "torch-bf16": "#b185db", "torch-int8": "#dac3e8", "onnx-fp32": "#0b525b",
    "onnx-int8": "#4fb3bf", "openvino-fp32": "#1d3557", "openvino-int8": "#6c9bd2",
}  # fmt: skip
MARKERS = ("o", "^", "s", "D")
TICKS = [n * 10**power for power in range(-1, 5) for n in (1, 2, 5)]


def plot(found: dict[str, Any], batch: int, file: Path) -> None:
    """``found``: by depth, as ``xtc_ds.bench.report.to_dict`` gives it."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("a plot needs matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    figure, axes = pyplot.subplots(figsize=(9, 5.2))
    labels: dict[str, str] = {}
    for (depth, figures), marker in zip(found.items(), MARKERS, strict=False):
        for row in figures["results"]:
            if row["batch"] != batch:
                continue
            labels[row["engine"]] = row["label"]
            axes.scatter(row["ms"], row["file_bytes"] / 1e6, marker=marker, zorder=3, **_style(row["engine"]))
            if row["engine"] == "fused":
                axes.annotate(
                    f"{row['label']}, {depth}:\n{row['ms']:.1f} ms, {row['file_bytes'] / 1e6:.1f} MB",
                    (row["ms"], row["file_bytes"] / 1e6), (0, -12), textcoords="offset points", ha="center", va="top",
                    fontsize=9, fontweight="bold",
                )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel=f"ms for {batch} x {_tokens(found)} tokens", ylabel="file, MB")
    left, right = axes.get_xlim()
    axes.set_xlim(left / 1.3, right)  # room for the words beside the fastest
    low, high = axes.get_ylim()
    axes.set_ylim(low / 2, high)  # room for the words below the lowest points
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(TICKS))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    axes.grid(visible=True, alpha=0.3)
    handles = [
        Line2D([], [], linestyle="", marker="o", color=_colour(engine), label=label, markersize=8)
        for engine, label in labels.items()
    ]
    handles += [
        Line2D([], [], linestyle="", marker=marker, color="black", fillstyle="none", label=depth, markersize=8)
        for depth, marker in zip(found, MARKERS, strict=False)
    ]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def _colour(engine: str) -> str:
    return OURS.get(engine) or PEERS.get(engine, "gray")


def _style(engine: str) -> dict[str, Any]:
    ours = engine in OURS
    return {"color": _colour(engine), "s": 130 if ours else 60, "edgecolors": "black" if ours else "none"}


def _tokens(found: dict[str, Any]) -> int:
    return int(next(iter(found.values()))["results"][0]["tokens"])


if __name__ == "__main__":
    parser = argument_parser("benchmarks.inference.plot", __doc__)
    parser.add_argument("figures", type=Path)
    parser.add_argument("plot", type=Path)
    parser.add_argument("--batch", type=int, default=1)
    arguments = parser.parse_args()
    plot(json.loads(arguments.figures.read_text(encoding="utf-8")), arguments.batch, arguments.plot)
