"""Whether a kernel may be called directly, or must go through an operator that others can see."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["is_eager"]


def is_eager(x: Tensor) -> bool:
    """Whether ``x`` is an ordinary tensor and nothing traces or intercepts the operators that are called on it."""
    return (
        type(x) is Tensor
        and not torch.compiler.is_compiling()
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._get_tracing_state() is None
    )
