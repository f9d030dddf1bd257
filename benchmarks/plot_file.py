"""The argument ``--plot FILE`` of the benchmarks."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

__all__ = ["plot_file"]


def plot_file(text: str) -> Path:
    """A type for ``argparse``: what would fail after minutes of measuring is told before."""
    if importlib.util.find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("a plot needs matplotlib: pip install 'xtc-ds[benchmarks]'")
    file = Path(text)
    if not file.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {file.absolute().parent}")
    return file
