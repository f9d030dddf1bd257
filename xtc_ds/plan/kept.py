"""How many weights remain in a pruned weight whose pruned elements are kept as zeros."""

from __future__ import annotations

import math

from torch import Tensor

from xtc_ds.plan.changes import ModuleChange, cut_dims
from xtc_ds.plan.rows import KeptWeights
from xtc_ds.storage import pattern_fits

__all__ = ["found_kept", "planned_kept"]


def planned_kept(change: ModuleChange, shape: tuple[int, ...]) -> KeptWeights | None:
    """What remains of a weight of ``shape`` (outputs first) at the end of all schedules.

    None if nothing leaves zeros, or if the number depends on the masks: if several rows mask the same weight, or if a
    masked weight is also cut.
    """
    if len(change.zeros) != 1 or cut_dims(change, "weight", output_first=True):
        return None
    return change.zeros[0].planned_kept(math.prod(shape))


def found_kept(change: ModuleChange, mask: Tensor) -> KeptWeights:
    """What ``mask`` (bool, outputs first) keeps; during the schedule this may be more than planned."""
    pattern = change.zeros[0].pattern
    return KeptWeights(int(mask.sum()), pattern if pattern is not None and pattern_fits(pattern, mask) else None)
