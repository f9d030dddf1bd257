"""Masks of the largest scores, and the gradient that lets scores be learned."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["kept_count", "straight_through", "top_mask"]


def kept_count(dense_ratio: float, units: int) -> int:
    """How many of ``units`` stay: ``ceil(dense_ratio * units)`` in float64, which is DeepSpeed's rule."""
    return math.ceil(dense_ratio * units)


def top_mask(scores: Tensor, kept: int) -> Tensor:
    """1 for the ``kept`` largest scores, 0 for the others; same shape and dtype, of equals the first ones stay."""
    if kept == 0:
        return torch.zeros_like(scores)
    flat = scores.detach().flatten()
    last = _kth_largest(flat, kept)
    above, equal = flat > last, flat == last
    places = kept - above.sum()
    return (above | (equal & (equal.cumsum(0) <= places))).to(scores.dtype).reshape(scores.shape)


def _kth_largest(flat: Tensor, k: int) -> Tensor:
    # Learned masks are made anew in every forward. Selecting is several times faster than sorting on a CPU, and
    # slower on a GPU.
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
    """``mask``, whose gradient goes to ``scores`` (same shape) as it is (movement pruning, Sanh et al. 2020)."""
    result: Tensor = _StraightThrough.apply(scores, mask)  # type: ignore[no-untyped-call]
    return result
