"""Static activation ranges are the same on every rank."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from xtc_ds.distributed import world_size
from xtc_ds.layers import RangeObserver

__all__ = ["synchronize_ranges"]


def synchronize_ranges(layers: Iterable[object]) -> None:
    """Widen every running range to cover what any rank has seen: one collective for all layers.

    All ranks held equal ranges before the step, so the extremes over the ranks of the moving averages
    are the moving averages of the global batch's extremes.
    """
    if world_size() == 1:
        return
    observers = (getattr(layer, "activation_quantizer", None) for layer in layers)
    ranges: list[Tensor] = [each.x_min_max for each in observers if isinstance(each, RangeObserver)]
    if not ranges:
        return
    # min(x) = -max(-x): both ends go through one reduction.
    signs = torch.tensor([-1.0, 1.0], device=ranges[0].device)
    stacked = torch.stack(ranges) * signs
    dist.all_reduce(stacked, op=dist.ReduceOp.MAX)
    for target, value in zip(ranges, stacked * signs, strict=True):
        target.copy_(value)
