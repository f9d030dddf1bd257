"""Drop layers; start the student from the teacher's remaining ones."""

from __future__ import annotations

from xtc_ds.techniques.layer_reduction.apply import apply
from xtc_ds.techniques.registry import register_technique

__all__ = ["apply"]

register_technique("layer_reduction", apply)
