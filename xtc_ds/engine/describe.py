"""The description of the model in a checkpoint, with which it can be exported without its training script."""

from __future__ import annotations

import json
from typing import Any

from torch import nn

from xtc_ds.compression_state import state_of

__all__ = ["describe_model"]


def describe_model(module: nn.Module) -> dict[str, Any]:
    """Plain data for JSON: ``class``, ``dtype`` of the weights in the forward, ``config`` of a Hugging Face model (else
    None), and ``about``, the facts for the model card.
    """
    config = getattr(module, "config", None)
    text = getattr(config, "to_json_string", None)
    floats = (parameter.dtype for parameter in module.parameters() if parameter.is_floating_point())
    return {
        "class": type(module).__name__,
        "dtype": str(next(floats, "float32")).removeprefix("torch."),
        "config": None if text is None else json.loads(text(use_diff=False)),
        "about": dict(state_of(module).about),
    }
