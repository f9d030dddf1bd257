"""Decides whether a kernel may be called directly or only through a registered torch operator."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["is_eager"]


def is_eager(x: Tensor) -> bool:
    """Whether ``x`` is a plain tensor (no subclass) and no tracer or dispatch mode observes operators on it."""
    return (
        type(x) is Tensor
        and not torch.compiler.is_compiling()
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._get_tracing_state() is None
    )
