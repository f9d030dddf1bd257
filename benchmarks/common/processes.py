"""Processes that a benchmark starts."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["ROOT", "child_environment"]

ROOT = Path(__file__).resolve().parents[2]


def child_environment(**variables: str) -> dict[str, str]:
    """This process's environment with ``variables``, where ``benchmarks`` and ``xtc_ds`` can be imported."""
    return {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
