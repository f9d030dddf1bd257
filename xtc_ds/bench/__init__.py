"""Timing a packed model beside other engines: each in a process of its own, taking turns."""

from __future__ import annotations

from xtc_ds.bench.competition import Competition, Result
from xtc_ds.bench.engines import ENGINES, GROUPS

__all__ = ["ENGINES", "GROUPS", "Competition", "Result"]
