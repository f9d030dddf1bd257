"""Head pruning as a technique."""

from __future__ import annotations

from xtc_ds.techniques.pruning.unit_technique import UnitPruning
from xtc_ds.techniques.registry import register_technique


class _HeadPruning(UnitPruning):
    name = "head_pruning"
    unit = "head"
    operation = "linear"
    after = ("layer_reduction", "weight_quantization", "sparse_pruning", "row_pruning")


register_technique(_HeadPruning())
