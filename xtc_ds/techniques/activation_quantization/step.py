"""Keep static activation ranges equal on all ranks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from xtc_ds.distributed import world_size
from xtc_ds.layers import RangeObserver

__all__ = ["synchronize_ranges"]


def synchronize_ranges(layers: Iterable[object]) -> None:
    """Widen every running range to cover those of all ranks, with one collective for all layers.

    All ranks had equal ranges before the step. Therefore the minimum and maximum of the moving averages over the ranks
    equal the moving averages of the global batch's minimum and maximum.
    """
    if world_size() == 1:
        return
    observers = (getattr(layer, "activation_quantizer", None) for layer in layers)
    ranges: list[Tensor] = [each.x_min_max for each in observers if isinstance(each, RangeObserver)]
    if not ranges:
        return
    # min(x) = -max(-x), so that one reduction handles both ends.
    signs = torch.tensor([-1.0, 1.0], device=ranges[0].device)
    stacked = torch.stack(ranges) * signs
    dist.all_reduce(stacked, op=dist.ReduceOp.MAX)
    for target, value in zip(ranges, stacked * signs, strict=True):
        target.copy_(value)
