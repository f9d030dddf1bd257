"""The native kernels between the linear layers of an encoder: GELU, and layer normalization of a residual sum.

Both overwrite their first argument, which is the output of the preceding linear layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xtc_ds.kernels.native import native_library

__all__ = ["add_norm_", "encoder_kernel_works", "gelu_"]


def encoder_kernel_works(*tensors: Tensor) -> bool:
    """Whether the kernel can run on these tensors now: contiguous float32 on the CPU, no gradient, no tracing."""
    library = native_library()
    return (
        library is not None
        and library.has_encoder
        and all(type(x) in (Tensor, torch.nn.Parameter) and x.device.type == "cpu" for x in tensors)
        and all(x.dtype == torch.float32 and x.is_contiguous() for x in tensors)
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors[:2]))
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._get_tracing_state() is None
    )


def gelu_(x: Tensor) -> Tensor:
    """GELU, ``x * Phi(x)`` with the normal distribution function Phi, in place; error below 1.5e-7."""
    library = native_library()
    assert library is not None, "callers ask for the library first"
    columns = x.shape[-1]
    status = library.gelu(x.data_ptr(), x.numel() // max(columns, 1), columns, torch.get_num_threads())
    assert status == 0, "the kernel refused its arguments"
    return x


def add_norm_(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Layer normalization of ``x + residual`` (..., D), in place in ``x``. weight, bias: (D,)."""
    library = native_library()
    assert library is not None, "callers ask for the library first"
    status = library.add_norm(
        x.data_ptr(), residual.data_ptr(), weight.data_ptr(), bias.data_ptr(), eps, x.numel() // len(weight),
        len(weight), torch.get_num_threads(),
    )  # fmt: skip
    assert status == 0, "the kernel refused its arguments"
    return x
