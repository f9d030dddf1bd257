"""``export_to``: writes a frozen model to files that other inference engines load without this package."""

from __future__ import annotations

from xtc_ds.engines.base import EngineReport
from xtc_ds.engines.export_to import CONTAINERS, export_to

__all__ = ["CONTAINERS", "EngineReport", "export_to"]
