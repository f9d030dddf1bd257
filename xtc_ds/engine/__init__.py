"""Training under DeepSpeed: ``initialize`` and the engine it returns."""

from __future__ import annotations

from xtc_ds.engine.initialize import initialize
from xtc_ds.engine.rehearsal import Rehearsal, rehearse
from xtc_ds.engine.schedule import CompressionSchedule
from xtc_ds.engine.teacher import snapshot
from xtc_ds.engine.wrapper import EngineState

__all__ = ["CompressionSchedule", "EngineState", "Rehearsal", "initialize", "rehearse", "snapshot"]
