"""Fake quantization: forward ``decode(encode(x))``, gradient straight through (Bengio et al. 2013)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xtc_ds.formats.activation import ActivationFormat
from xtc_ds.formats.base import WeightFormat
from xtc_ds.formats.grouping import Grouping

__all__ = ["fake_quantize_activation", "fake_quantize_weight"]


class _FakeQuantizeWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor, weight_format: WeightFormat, grouping: Grouping) -> Tensor:
        encoded = weight_format.encode(grouping.split(w))
        return encoded.decode(w.dtype).reshape(w.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return grad, None, None


class _FakeQuantizeActivation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, activation_format: ActivationFormat, range_: Tensor | None) -> Tensor:
        return activation_format.encode(x, range_).decode(x.dtype).reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return grad, None, None


def fake_quantize_weight(w_OI: Tensor, weight_format: WeightFormat, grouping: Grouping) -> Tensor:
    """``w_OI`` as its codes stand for it, same shape and dtype; the gradient passes unchanged, unclipped."""
    result: Tensor = _FakeQuantizeWeight.apply(w_OI, weight_format, grouping)  # type: ignore[no-untyped-call]
    return result


def fake_quantize_activation(x: Tensor, activation_format: ActivationFormat, range_: Tensor | None = None) -> Tensor:
    """``x`` (any shape, features last) as its codes stand for it; the gradient passes unchanged."""
    result: Tensor = _FakeQuantizeActivation.apply(x, activation_format, range_)  # type: ignore[no-untyped-call]
    return result
