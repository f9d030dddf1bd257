"""Distillation: loading the teacher, mapping layers, and the losses that make a student follow it."""

from __future__ import annotations

from xtc_ds.distillation.attention import disable_attention_tap, enable_attention_tap
from xtc_ds.distillation.check import check_distillation
from xtc_ds.distillation.distiller import Distiller
from xtc_ds.distillation.layer_map import LayerMap, make_layer_map
from xtc_ds.distillation.projection import PROJECTION_NAME, strip_projection
from xtc_ds.distillation.taps import Capture, Tap
from xtc_ds.distillation.teacher import load_teacher

__all__ = [
    "PROJECTION_NAME",
    "Capture",
    "Distiller",
    "LayerMap",
    "Tap",
    "check_distillation",
    "disable_attention_tap",
    "enable_attention_tap",
    "load_teacher",
    "make_layer_map",
    "strip_projection",
]
