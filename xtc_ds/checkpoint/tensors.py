"""The tensors of a frozen model as its file holds them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xtc_ds.checkpoint.quantization_config import XtcQuantizationConfig

__all__ = ["stored_tensors"]


def stored_tensors(model: nn.Module, config: XtcQuantizationConfig) -> dict[str, Tensor]:
    """Name to contiguous CPU tensor: codes as uint8, floats as ``config`` says, shared tensors once."""
    dtype = getattr(torch, config.float_dtype)
    # Moving a model to another device or dtype parts the buffers of tied layers, not their parameters.
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
