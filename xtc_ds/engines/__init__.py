"""``export_to``: files that stock engines load, written from a frozen model."""

from __future__ import annotations

from xtc_ds.engines.base import EngineReport
from xtc_ds.engines.export_to import CONTAINERS, export_to

__all__ = ["CONTAINERS", "EngineReport", "export_to"]
