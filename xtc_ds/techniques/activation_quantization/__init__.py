"""Layer inputs as 8- or 4-bit codes."""

from __future__ import annotations

from xtc_ds.techniques.activation_quantization.apply import apply
from xtc_ds.techniques.registry import register_technique

__all__ = ["apply"]

register_technique("activation_quantization", apply)
