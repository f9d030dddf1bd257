"""Fake quantization for training: encode and decode, so that floats take the values of their codes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from xtc_ds.formats.activation import ActivationFormat
from xtc_ds.formats.base import WeightFormat
from xtc_ds.formats.grouping import Grouping
from xtc_ds.formats.straight_through import straight_through_activation

__all__ = ["fake_quantize_activation", "fake_quantize_weight"]


def fake_quantize_weight(
    w_OI: Tensor,
    weight_format: WeightFormat,
    grouping: Grouping,
    noise: Tensor | None = None,
    float_share: float = 0.0,
    learned: Mapping[str, Tensor] | None = None,
    codes: Tensor | None = None,
) -> Tensor:
    """``w_OI`` encoded and decoded, in the same shape and dtype, with the gradient that the format defines.

    noise: one number in [0, 1) per weight, row-major, for stochastic rounding; None to round to nearest.
    float_share: r in ``r * w + (1 - r) * w_hat``, 0 to 1, to quantize weights gradually.
    learned: the learned parts of the format by name, as ``decode`` expects them; they get a gradient.
    codes: fixed codes in the shape of the weights; None to compute them from the weights.
    """
    return weight_format.fake_quantize(w_OI, grouping, noise, float_share, learned, codes)


def fake_quantize_activation(x: Tensor, activation_format: ActivationFormat, range_: Tensor | None = None) -> Tensor:
    """``x`` (any shape, features last) encoded and decoded, with the straight-through estimator as gradient."""
    return straight_through_activation(x, activation_format, range_)
