"""Make masks and scores equal on all ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from xtc_ds.distributed import world_size

__all__ = ["average_over_ranks", "broadcast_masks"]


def broadcast_masks(masks: Sequence[Tensor]) -> None:
    """Broadcast rank 0's masks in one collective, in place, as DeepSpeed does with weights. All ranks call this."""
    if world_size() == 1 or not masks:
        return
    flat = torch.cat([mask.flatten().to(torch.uint8) for mask in masks])
    dist.broadcast(flat, 0)
    _scatter(flat, masks)


def average_over_ranks(scores: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over the ranks in one collective, in place. All ranks have to call this."""
    if world_size() == 1 or not scores:
        return
    flat = torch.cat([score.flatten() for score in scores])
    dist.all_reduce(flat)
    _scatter(flat / world_size(), scores)


def _scatter(flat: Tensor, targets: Sequence[Tensor]) -> None:
    parts = torch.split(flat, [target.numel() for target in targets])
    for target, part in zip(targets, parts, strict=True):
        target.copy_(part.view(target.shape))
