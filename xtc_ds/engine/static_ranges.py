"""Static activation ranges are the same on every rank."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from xtc_ds.distributed import world_size
from xtc_ds.layers import RangeObserver

__all__ = ["synchronize_ranges"]


def synchronize_ranges(model: nn.Module) -> None:
    """Widen every running range to cover what any rank has seen: one collective for all layers.

    All ranks held equal ranges before the step, so the extremes over the ranks of the moving averages
    are the moving averages of the global batch's extremes.
    """
    if world_size() == 1:
        return
    ranges: list[Tensor] = [m.x_min_max for m in model.modules() if isinstance(m, RangeObserver)]
    if not ranges:
        return
    # min(x) = -max(-x): both ends go through one reduction.
    signs = torch.tensor([-1.0, 1.0], device=ranges[0].device)
    stacked = torch.stack(ranges) * signs
    dist.all_reduce(stacked, op=dist.ReduceOp.MAX)
    for target, value in zip(ranges, stacked * signs, strict=True):
        target.copy_(value)
