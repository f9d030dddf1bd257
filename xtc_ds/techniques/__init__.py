"""One folder per technique; importing this package registers them.

Layers are dropped first. Prunings follow in the order in which their masks are multiplied in.
"""

from __future__ import annotations

from xtc_ds.techniques import layer_reduction  # isort: skip
from xtc_ds.techniques import weight_quantization  # isort: skip
from xtc_ds.techniques import activation_quantization  # isort: skip
from xtc_ds.techniques import sparse_pruning  # isort: skip
from xtc_ds.techniques import row_pruning  # isort: skip
from xtc_ds.techniques import head_pruning  # isort: skip
from xtc_ds.techniques import channel_pruning  # isort: skip
from xtc_ds.techniques.registry import Technique, register_technique, techniques

__all__ = [
    "Technique",
    "activation_quantization",
    "channel_pruning",
    "head_pruning",
    "layer_reduction",
    "register_technique",
    "row_pruning",
    "sparse_pruning",
    "techniques",
    "weight_quantization",
]
