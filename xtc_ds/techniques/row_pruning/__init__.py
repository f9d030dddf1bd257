"""Whole outputs of a layer become zero, and go if what reads them shrinks along."""

from __future__ import annotations

from xtc_ds.techniques.registry import register_technique
from xtc_ds.techniques.row_pruning.apply import apply

__all__ = ["apply"]

register_technique("row_pruning", apply)
