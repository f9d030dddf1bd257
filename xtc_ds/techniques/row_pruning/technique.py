"""Row pruning as a technique."""

from __future__ import annotations

from xtc_ds.techniques.pruning.unit_masks import OutputMask
from xtc_ds.techniques.pruning.unit_technique import UnitPruning
from xtc_ds.techniques.registry import register_technique


class _RowPruning(UnitPruning):
    name = "row_pruning"
    unit = "row"
    mask_class = OutputMask
    operation = "linear"
    after = ("layer_reduction", "weight_quantization", "sparse_pruning")


register_technique(_RowPruning())
