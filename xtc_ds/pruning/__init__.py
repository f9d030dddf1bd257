"""Which weights stay: scores, masks and their schedule, as pure functions over tensors."""

from __future__ import annotations

from xtc_ds.pruning.norms import channel_norms, head_norms, row_norms
from xtc_ds.pruning.patterns import Blocks, KeepOf, Pattern, Singles, parse_pattern
from xtc_ds.pruning.snip import GradualSchedule, SnipMomentum, scored_product
from xtc_ds.pruning.top import kept_count, straight_through, top_mask

__all__ = [
    "Blocks",
    "GradualSchedule",
    "KeepOf",
    "Pattern",
    "Singles",
    "SnipMomentum",
    "channel_norms",
    "head_norms",
    "kept_count",
    "parse_pattern",
    "row_norms",
    "scored_product",
    "straight_through",
    "top_mask",
]
