"""Quantized inputs, computed once if several layers have the same input (query, key and value)."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from xtc_ds.kernels.triton.quantize import InputCodes, quantize_input

__all__ = ["shared_codes"]


@dataclass(frozen=True)
class _Last:
    source: weakref.ref[Tensor]
    key: tuple[object, ...]
    codes: InputCodes


_local = threading.local()


def shared_codes(x: Tensor, bits: int) -> InputCodes:
    """Codes of ``x`` (..., I) with one scale per token; the last result is reused for the same, unchanged tensor."""
    x_TI = x.reshape(-1, x.shape[-1])
    on_gpu = x.device.type == "cuda"
    # Inference tensors have no version counter, so that a change would go unnoticed. A CUDA graph must contain the
    # quantization that its replay needs.
    if x.is_inference() or (on_gpu and torch.cuda.is_current_stream_capturing()):
        return quantize_input(x_TI, bits)
    # Another stream would not wait until the codes are computed.
    key = (x._version, bits, torch.cuda.current_stream(x.device).cuda_stream if on_gpu else None)
    last: _Last | None = getattr(_local, "last", None)
    if last is not None and last.source() is x and last.key == key:
        return last.codes
    codes = quantize_input(x_TI, bits)
    _local.last = _Last(weakref.ref(x, _forget), key, codes)
    return codes


def _forget(source: weakref.ref[Tensor]) -> None:
    last: _Last | None = getattr(_local, "last", None)
    if last is not None and last.source is source:
        _local.last = None
