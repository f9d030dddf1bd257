"""Whole output channels of a convolution become zero."""

from __future__ import annotations

from xtc_ds.techniques.channel_pruning.apply import apply
from xtc_ds.techniques.registry import register_technique

__all__ = ["apply"]

register_technique("channel_pruning", apply)
