"""Single weights, or blocks of them, become zero."""

from __future__ import annotations

from xtc_ds.techniques.registry import register_technique
from xtc_ds.techniques.sparse_pruning.apply import apply

__all__ = ["apply"]

register_technique("sparse_pruning", apply)
