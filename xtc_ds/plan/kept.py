"""How many weights are not zero in a weight whose pruned parts stay."""

from __future__ import annotations

import math

from torch import Tensor

from xtc_ds.plan.changes import ModuleChange, cut_dims
from xtc_ds.plan.rows import KeptWeights
from xtc_ds.storage import pattern_fits

__all__ = ["found_kept", "planned_kept"]


def planned_kept(change: ModuleChange, shape: tuple[int, ...]) -> KeptWeights | None:
    """What stays of a weight of ``shape`` (outputs first) at the end of all schedules.

    None where nothing leaves zeros, or where the number is known only once the masks are: where several meet, or
    where a masked weight is also cut.
    """
    if len(change.zeros) != 1 or cut_dims(change, "weight", output_first=True):
        return None
    return change.zeros[0].planned_kept(math.prod(shape))


def found_kept(change: ModuleChange, mask: Tensor) -> KeptWeights:
    """What ``mask`` (bool, outputs first) keeps; it may be on its way to the planned one."""
    pattern = change.zeros[0].pattern
    return KeptWeights(int(mask.sum()), pattern if pattern is not None and pattern_fits(pattern, mask) else None)
