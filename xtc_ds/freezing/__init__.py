"""Turn a trained model into a frozen or a dense one: schedules at their end, masks applied, pruned parts cut off."""

from __future__ import annotations

from xtc_ds.freezing.bake import bake
from xtc_ds.freezing.freeze import freeze_model, is_frozen, unwrap

__all__ = ["bake", "freeze_model", "is_frozen", "unwrap"]
