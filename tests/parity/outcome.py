"""What is compared of a case: the same measurements of a model of either library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.parity.arrays import as_array
from tests.parity.cases import Case
from tests.parity.models import model_input, upstream

__all__ = ["outcome"]


def outcome(
    case: Case,
    model: nn.Module,
    masks: Callable[[nn.Module], dict[str, Tensor]],
    clean: Callable[[nn.Module], object],
) -> dict[str, NDArray[Any]]:
    """Masks, output and gradients of a forward and backward; state and output of the model that ``clean`` leaves."""
    x = model_input(case.model, case.seed)
    if x.is_floating_point():
        x = x.to(getattr(torch, case.dtype)).requires_grad_()
    model.train()
    for batch in range(case.calibrate):
        model(model_input(case.model, case.seed + 1 + batch))
    model.eval()
    result = {f"mask/{name}": as_array(mask).astype(bool) for name, mask in masks(model).items()}
    y = model(x)
    y.backward(upstream(y))
    result["y"] = as_array(y)
    result |= {f"gradient/{name}": as_array(p.grad) for name, p in model.named_parameters() if p.grad is not None}
    if x.grad is not None:
        result["gradient/x"] = as_array(x.grad)
    clean(model)
    result |= {f"clean/{name}": as_array(value) for name, value in model.state_dict().items()}
    result["clean_y"] = as_array(model(x))
    return result
