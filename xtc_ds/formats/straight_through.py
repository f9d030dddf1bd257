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
    def forward(
        ctx: Any, w: Tensor, weight_format: WeightFormat, grouping: Grouping, noise: Tensor | None, float_share: float
    ) -> Tensor:
        w_GN = grouping.split(w)
        if noise is None:
            encoded = weight_format.encode(w_GN)
        else:
            encoded = weight_format.encode_stochastic(w_GN, noise.reshape(w_GN.shape))
        w_hat = encoded.decode(w.dtype).reshape(w.shape)
        return w_hat if float_share == 0 else float_share * w + (1 - float_share) * w_hat

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        return grad, None, None, None, None


class _FakeQuantizeActivation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, activation_format: ActivationFormat, range_: Tensor | None) -> Tensor:
        return activation_format.encode(x, range_).decode(x.dtype).reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return grad, None, None


def fake_quantize_weight(
    w_OI: Tensor,
    weight_format: WeightFormat,
    grouping: Grouping,
    noise: Tensor | None = None,
    float_share: float = 0.0,
) -> Tensor:
    """``w_OI`` as its codes stand for it, same shape and dtype; the gradient passes unchanged, unclipped.

    noise: as many numbers in [0, 1) as weights, row-major, for stochastic rounding; None rounds to the nearest.
    float_share: r of ``r * w + (1 - r) * w_hat``, 0 to 1; for weights that turn into codes gradually.
    """
    result: Tensor = _FakeQuantizeWeight.apply(w_OI, weight_format, grouping, noise, float_share)  # type: ignore[no-untyped-call]
    return result


def fake_quantize_activation(x: Tensor, activation_format: ActivationFormat, range_: Tensor | None = None) -> Tensor:
    """``x`` (any shape, features last) as its codes stand for it; the gradient passes unchanged."""
    result: Tensor = _FakeQuantizeActivation.apply(x, activation_format, range_)  # type: ignore[no-untyped-call]
    return result
