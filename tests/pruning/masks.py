"""Looking at the masks of pruned layers."""

from __future__ import annotations

from typing import Any

from xtc_ds.techniques.pruning.masks import Mask
from xtc_ds.techniques.sparse_pruning.transform import SparseMask

__all__ = ["SCORE_NAMES", "kept_units", "pruning_rows", "sparse_mask"]

SCORE_NAMES = ("sparse_mask_scores", "row_mask_scores", "head_pruning_scores", "channel_mask_scores")


def pruning_rows(layer: Any) -> list[Any]:
    """The rows by which a layer is pruned, in the order in which their masks are multiplied in."""
    return [each.row for each in layer.weight_transforms if isinstance(each, Mask)]


def kept_units(layer: Any, row: Any) -> Any:
    """Which rows, heads or channels stay, bool, (units,)."""
    found = next(each.kept_units(layer) for each in layer.weight_transforms if each.row is row)
    assert found is not None
    return found


def sparse_mask(layer: Any) -> Any:
    """The mask of sparse pruning as it would be shipped now, bool, outputs first; None without the technique."""
    return next((each.weight_mask(layer) for each in layer.weight_transforms if isinstance(each, SparseMask)), None)
