"""Keys beside the block that current DeepSpeed refuses."""

from __future__ import annotations

from typing import Any

from xtc_ds.config.migrate.blocks import mapping
from xtc_ds.config.migrate.note import Note

__all__ = ["note_rejected"]

# What DeepSpeed 0.19.8 raises an error for, apart from what belongs to compression.
_REJECTED = (
    "nebula",
    "amp",
    "sparse_gradients",
    "sparse_attention",
    "elasticity",
    "graph_harvesting",
    "curriculum_learning",
    "progressive_layer_drop",
)
_REJECTED_ZERO = ("mics_shard_size", "mics_hierarchical_params_gather", "zeropp_loco_param")


def note_rejected(config: dict[str, Any]) -> list[Note]:
    """A note for each key that has nothing to do with compression but stops DeepSpeed; none is touched."""
    zero = mapping(config, "zero_optimization")
    places = [key for key in _REJECTED if key in config]
    places += [f"zero_optimization.{key}" for key in _REJECTED_ZERO if key in zero]
    now = "not touched; DeepSpeed 0.19.8 and later stop with an error while the key is there: take it out yourself"
    return [Note("left", place, "read by DeepSpeed", now) for place in places]
