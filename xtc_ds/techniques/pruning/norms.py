"""Scores of whole rows, heads and channels: their L1 norms.

Shape legend: O and I = output and input features or channels, H = heads, kH, kW = kernel sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["channel_norms", "head_norms", "row_norms"]


def row_norms(w_OI: Tensor) -> Tensor:
    """L1 norm of every row, (O, 1)."""
    norms: Tensor = torch.linalg.norm(w_OI, ord=1, dim=1)
    return norms.view(-1, 1)


def head_norms(w_OI: Tensor, heads: int) -> Tensor:
    """L1 norm of each of ``heads`` equal blocks of input columns, (1, H)."""
    norms: Tensor = torch.linalg.norm(w_OI.t().reshape(heads, -1), ord=1, dim=1)
    return norms.view(1, -1)


def channel_norms(w_OIhw: Tensor) -> Tensor:
    """L1 norm of the kernels of every output channel, (O, 1, 1, 1).

    DeepSpeed calls a matrix norm over three dimensions, which raises in every torch version; this sum is the intended
    value.
    """
    return w_OIhw.abs().sum(dim=(1, 2, 3), keepdim=True)
