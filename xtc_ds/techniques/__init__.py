"""One folder per technique; importing this package registers them. Layers are dropped before the rest is quantized."""

from __future__ import annotations

from xtc_ds.techniques import layer_reduction  # isort: skip
from xtc_ds.techniques import weight_quantization  # isort: skip
from xtc_ds.techniques import activation_quantization  # isort: skip
from xtc_ds.techniques.registry import Technique, register_technique, techniques

__all__ = [
    "Technique",
    "activation_quantization",
    "layer_reduction",
    "register_technique",
    "techniques",
    "weight_quantization",
]
