"""How many weights pruning keeps where the others stay as zeros."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from xtc_ds.plan.rows import SparseRow, StructuredRow
from xtc_ds.plan.shrink import Pruned, cut_dims
from xtc_ds.pruning.patterns import Blocks, KeepOf, parse_pattern
from xtc_ds.pruning.top import kept_count
from xtc_ds.storage import pattern_fits

__all__ = ["KeptWeights", "found_kept", "planned_kept"]


@dataclass(frozen=True)
class KeptWeights:
    """count: of the weights that stay. pattern: (kept, of) neighbouring inputs, or None where that is not so."""

    count: int
    pattern: tuple[int, int] | None = None


def planned_kept(pruned: Pruned, shape: tuple[int, ...]) -> KeptWeights | None:
    """What is kept of a weight of ``shape`` (outputs first) when pruning is at its end.

    None where no mask is left, or where it is known only once the masks are: where several meet, or one is cut.
    """
    if len(pruned.masks) != 1 or cut_dims(pruned, "weight", output_first=True):
        return None
    rule, numel = pruned.masks[0], math.prod(shape)
    if isinstance(rule, StructuredRow):
        return KeptWeights(numel // rule.units * rule.kept)
    pattern = parse_pattern(rule.block_pattern)
    if isinstance(pattern, KeepOf):
        groups = numel // pattern.of
        pruned_groups = pattern.pruned_groups(rule.dense_ratio, groups)
        places = (pattern.kept, pattern.of) if pruned_groups == groups else None
        return KeptWeights(numel - pruned_groups * (pattern.of - pattern.kept), places)
    size = pattern.rows * pattern.columns if isinstance(pattern, Blocks) else 1
    return KeptWeights(kept_count(rule.dense_ratio, numel // size) * size)


def found_kept(pruned: Pruned, mask: Tensor) -> KeptWeights:
    """What ``mask`` keeps, bool, outputs first; it may be on its way to the planned one."""
    rule = pruned.masks[0]
    pattern = parse_pattern(rule.block_pattern) if isinstance(rule, SparseRow) else None
    places = (pattern.kept, pattern.of) if isinstance(pattern, KeepOf) else None
    return KeptWeights(int(mask.sum()), places if places is not None and pattern_fits(places, mask) else None)
