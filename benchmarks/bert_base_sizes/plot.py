"""File sizes as bars, each with its size and how much smaller it is than the first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["plot"]


def plot(sizes: Mapping[str, int], file: Path) -> None:
    """sizes: name to bytes, the uncompressed file first. Needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names, megabytes = list(sizes), [size / 1e6 for size in sizes.values()]
    colours = ["#6c757d"] + ["#c1121f" if "1bit" in name else "#4fb3bf" for name in names[1:]]
    figure, axes = pyplot.subplots(figsize=(8, 0.45 * len(names) + 0.8))
    bars = axes.barh(names, megabytes, color=colours)
    smaller = [f"   {megabytes[0] / size:.0f}x smaller" if size < megabytes[0] else "" for size in megabytes]
    labels = [f"{size:.1f} MB{times}" for size, times in zip(megabytes, smaller, strict=True)]
    axes.bar_label(bars, labels, padding=5)
    axes.set(xlim=(0, 1.18 * megabytes[0]), title="BERT-base on disk")
    axes.invert_yaxis()
    axes.xaxis.set_visible(False)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=130)
    pyplot.close(figure)
