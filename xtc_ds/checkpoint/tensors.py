"""The tensors of a frozen model as its file holds them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xtc_ds.checkpoint.quantization_config import describe_packed
from xtc_ds.runtime.packed import WEIGHT_KEYS

__all__ = ["file_metadata", "stored_tensors"]


def stored_tensors(model: nn.Module, float_dtype: str) -> dict[str, Tensor]:
    """Name to contiguous CPU tensor: codes as uint8, floats in ``float_dtype``, shared tensors once."""
    dtype = getattr(torch, float_dtype)
    # Moving a model to another device or dtype parts the buffers of tied layers, not their parameters.
    tied = describe_packed(model, float_dtype).tied
    twins = {f"{name}.{key}" for name in tied for key in WEIGHT_KEYS}
    seen: set[int] = set()
    result = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen or name in twins:
            continue
        seen.add(id(tensor))
        value = tensor.detach().to("cpu")
        result[name] = (value.to(dtype) if value.is_floating_point() else value).contiguous()
    return result


def file_metadata(model: nn.Module) -> dict[str, str]:
    """Metadata of the safetensors header of a frozen model."""
    version = describe_packed(model, "float32").format_version
    return {"format": "pt", "xtc_format_version": str(version)}
