"""Masks of the largest scores, and the straight-through estimator by which scores are learned."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["kept_count", "straight_through", "top_mask"]


def kept_count(dense_ratio: float, units: int) -> int:
    """How many of ``units`` are kept: ``ceil(dense_ratio * units)`` in float64 (DeepSpeed's rule)."""
    return math.ceil(dense_ratio * units)


def top_mask(scores: Tensor, kept: int) -> Tensor:
    """1 for the ``kept`` largest scores, else 0; same shape and dtype as ``scores``. Among ties the first ones win."""
    if kept == 0:
        return torch.zeros_like(scores)
    flat = scores.detach().flatten()
    last = _kth_largest(flat, kept)
    above, equal = flat > last, flat == last
    places = kept - above.sum()
    return (above | (equal & (equal.cumsum(0) <= places))).to(scores.dtype).reshape(scores.shape)


def _kth_largest(flat: Tensor, k: int) -> Tensor:
    # Learned masks are computed in every forward. Selection is several times faster than sorting on a CPU, but slower
    # on a GPU.
    if flat.device.type == "cpu":
        return flat.kthvalue(flat.numel() - k + 1).values
    return flat.sort(descending=True).values[k - 1]


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, mask: Tensor) -> Tensor:
        return mask.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return grad, None


def straight_through(scores: Tensor, mask: Tensor) -> Tensor:
    """``mask``; its gradient goes to ``scores`` (same shape) unchanged (movement pruning, Sanh et al. 2020)."""
    result: Tensor = _StraightThrough.apply(scores, mask)  # type: ignore[no-untyped-call]
    return result
