"""Give each planned module its activation rule."""

from __future__ import annotations

import torch
from torch import nn

from xtc_ds.layers import RangeObserver, swap_class
from xtc_ds.plan import CompressionPlan
from xtc_ds.techniques.registry import register_technique

__all__ = ["apply"]


def apply(model: nn.Module, plan: CompressionPlan, teacher: nn.Module | None) -> None:
    """Swap the class of every planned module; a static range is a buffer of a new submodule."""
    for row in plan.activations:
        module = model.get_submodule(row.module)
        swap_class(module).activation_rule = row
        if row.format.calibration == "static":
            device = next((p.device for p in module.parameters()), torch.device("cpu"))
            module.activation_quantizer = RangeObserver().to(device).train(module.training)


register_technique("activation_quantization", apply)
