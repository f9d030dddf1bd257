"""Encoder attention on the native kernel, in float32, for up to about a thousand tokens.

Shape legend: B = samples, H = heads, Q = queries, K = keys, D = features of a head.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from xtc_ds.kernels.native import native_library

__all__ = ["FUSED_ATTENTION", "attend", "can_attend"]

#: The name under which it is registered as a transformers attention implementation.
FUSED_ATTENTION = "xtc_ds"

# With more keys, torch's blockwise attention is the better choice: this kernel would need too much memory.
_MOST_KEYS = 1024


def can_attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> bool:
    """Whether ``attend`` can run on these tensors now."""
    library = native_library()
    return (
        library is not None
        and library.has_encoder
        and all(type(x) is Tensor and x.device.type == "cpu" and x.dtype == torch.float32 for x in (q, k, v))
        and all(x.stride(3) == 1 for x in (q, k, v))
        and q.shape[3] % 32 == 0
        and q.shape[:2] == k.shape[:2] == v.shape[:2]
        and k.shape == v.shape
        and q.shape[3] == k.shape[3]
        and 1 <= k.shape[2] <= _MOST_KEYS
        and (mask is None or (type(mask) is Tensor and mask.dtype == torch.bool and mask.device.type == "cpu"))
        and not (torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad))
        and not torch._C._len_torch_dispatch_stack()
    )


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Compute ``softmax(scale * q k' + mask) v`` for q (B, H, Q, D), k and v (B, H, K, D); returns (B, Q, H, D).

    mask: bool, broadcast to (B, H, Q, K); True where a query may attend to a key. A query without any visible key
        gets an output of 0.
    """
    library = native_library()
    assert library is not None, "callers ask for the library first"
    B, H, Q, D = q.shape
    K, threads = k.shape[2], torch.get_num_threads()
    seen = None if mask is None else mask.expand(B, H, Q, K)
    y = torch.empty((B, Q, H, D))
    strides = (*q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *((0, 0, 0, 0) if seen is None else seen.stride()))
    scratch = torch.empty(library.attention_scratch_bytes(K, D, threads), dtype=torch.uint8)
    status = library.attention(
        q.data_ptr(), k.data_ptr(), v.data_ptr(), None if seen is None else seen.data_ptr(),
        (ctypes.c_int64 * 13)(*strides), (ctypes.c_int64 * 5)(B, H, Q, K, D), scale, y.data_ptr(),
        scratch.data_ptr(), threads,
    )  # fmt: skip
    assert status == 0, "the kernel refused its arguments"
    return y
