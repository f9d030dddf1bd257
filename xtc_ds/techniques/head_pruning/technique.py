"""Head pruning as a technique."""

from __future__ import annotations

from xtc_ds.techniques.head_pruning.attributes import HEAD_ATTRIBUTES
from xtc_ds.techniques.head_pruning.transform import HeadMask
from xtc_ds.techniques.pruning.unit_technique import UnitPruning
from xtc_ds.techniques.registry import register_technique


class _HeadPruning(UnitPruning):
    name = "head_pruning"
    unit = "head"
    frozen_attributes = HEAD_ATTRIBUTES
    mask_class = HeadMask
    operation = "linear"
    after = ("layer_reduction", "weight_quantization", "sparse_pruning", "row_pruning")


register_technique(_HeadPruning())
