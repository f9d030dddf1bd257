"""Command lines of the benchmarks."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

__all__ = ["argument_parser", "plot_file"]


def argument_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser whose help says how ``module`` is run and shows its docstring as it is written."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def plot_file(text: str) -> Path:
    """The type of ``--plot FILE``: refuses at once what would otherwise fail after minutes of measuring."""
    if importlib.util.find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("a plot needs matplotlib: pip install 'xtc-ds[benchmarks]'")
    file = Path(text)
    if not file.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {file.absolute().parent}")
    return file
