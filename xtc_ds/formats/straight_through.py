"""The straight-through estimator: forward ``decode(encode(x))``, backward the identity (Bengio et al. 2013)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from xtc_ds.formats.activation import ActivationFormat
    from xtc_ds.formats.base import WeightFormat
    from xtc_ds.formats.grouping import Grouping

__all__ = ["straight_through", "straight_through_activation"]


class _StraightThrough(torch.autograd.Function):
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


class _StraightThroughActivation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, activation_format: ActivationFormat, range_: Tensor | None) -> Tensor:
        return activation_format.encode(x, range_).decode(x.dtype).reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return grad, None, None


def straight_through(
    w: Tensor, weight_format: WeightFormat, grouping: Grouping, noise: Tensor | None, float_share: float
) -> Tensor:
    """``float_share * w + (1 - float_share) * decode(encode(w))``; the gradient is passed to ``w`` unchanged."""
    result: Tensor = _StraightThrough.apply(w, weight_format, grouping, noise, float_share)  # type: ignore[no-untyped-call]
    return result


def straight_through_activation(x: Tensor, activation_format: ActivationFormat, range_: Tensor | None) -> Tensor:
    """``decode(encode(x))``; the gradient is passed to ``x`` unchanged."""
    result: Tensor = _StraightThroughActivation.apply(x, activation_format, range_)  # type: ignore[no-untyped-call]
    return result
