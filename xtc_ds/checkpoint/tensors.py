"""The tensors of a frozen model in the form in which its file stores them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xtc_ds.checkpoint.quantization_config import XtcQuantizationConfig

__all__ = ["stored_tensors"]


def stored_tensors(model: nn.Module, config: XtcQuantizationConfig) -> dict[str, Tensor]:
    """Map names to contiguous CPU tensors: codes as uint8, floats in ``config.float_dtype``, shared tensors once."""
    dtype = getattr(torch, config.float_dtype)
    # Besides by identity, tied tensors are found by name: moving a model unties the buffers of tied layers.
    shared = config.shared_tensors()
    seen: set[int] = set()
    result = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen or name in shared:
            continue
        seen.add(id(tensor))
        value = tensor.detach().to("cpu")
        result[name] = (value.to(dtype) if value.is_floating_point() else value).contiguous()
    return result
