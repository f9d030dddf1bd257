"""Whole attention heads become zero, on the matrix that joins them."""

from __future__ import annotations

from xtc_ds.techniques.head_pruning.apply import apply
from xtc_ds.techniques.registry import register_technique

__all__ = ["apply"]

register_technique("head_pruning", apply)
