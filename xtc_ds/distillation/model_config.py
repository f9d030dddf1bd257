"""Read values from the config of a Hugging Face model."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["config_value"]


def config_value(model: nn.Module, name: str) -> Any:
    """``model.config.<name>``, with Hugging Face's name (``hidden_size``, ...), or None if there is none."""
    return getattr(getattr(model, "config", None), name, None)
