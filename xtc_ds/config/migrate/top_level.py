"""Top-level keys that current DeepSpeed refuses."""

from __future__ import annotations

from typing import Any

from xtc_ds.config.migrate.blocks import mapping
from xtc_ds.config.migrate.note import Note

__all__ = ["note_rejected"]

# Keys for which DeepSpeed 0.19.8 raises an error, apart from those for compression.
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
    """A note for each key that is unrelated to compression but stops DeepSpeed; the keys are not changed."""
    zero = mapping(config, "zero_optimization")
    places = [key for key in _REJECTED if key in config]
    places += [f"zero_optimization.{key}" for key in _REJECTED_ZERO if key in zero]
    now = "not touched; DeepSpeed 0.19.8 and later stop with an error while the key is there: take it out yourself"
    return [Note("left", place, "read by DeepSpeed", now) for place in places]
