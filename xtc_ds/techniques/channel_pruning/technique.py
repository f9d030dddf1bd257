"""Channel pruning as a technique."""

from __future__ import annotations

from xtc_ds.techniques.pruning.unit_masks import OutputMask
from xtc_ds.techniques.pruning.unit_technique import UnitPruning
from xtc_ds.techniques.registry import register_technique


class _ChannelPruning(UnitPruning):
    name = "channel_pruning"
    unit = "channel"
    mask_class = OutputMask
    operation = "convolution"
    after = ("layer_reduction", "weight_quantization", "sparse_pruning", "row_pruning", "head_pruning")


register_technique(_ChannelPruning())
