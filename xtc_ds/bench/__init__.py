"""Benchmarks a packed model against other engines, each in its own process, measured in alternating rounds."""

from __future__ import annotations

from xtc_ds.bench.competition import Competition, Result
from xtc_ds.bench.engines import ENGINES, GROUPS

__all__ = ["ENGINES", "GROUPS", "Competition", "Result"]
