"""What the config of a Hugging Face model says."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["config_value"]


def config_value(model: nn.Module, name: str) -> Any:
    """``model.config.<name>`` by Hugging Face's name (``hidden_size``, ...), or None."""
    return getattr(getattr(model, "config", None), name, None)
