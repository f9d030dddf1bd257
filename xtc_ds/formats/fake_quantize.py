"""Fake quantization: what training computes with, floats that codes stand for."""

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
    """``w_OI`` as its codes stand for it, same shape and dtype, with the gradient of the format.

    noise: as many numbers in [0, 1) as weights, row-major, for stochastic rounding; None rounds to the nearest.
    float_share: r of ``r * w + (1 - r) * w_hat``, 0 to 1; for weights that turn into codes gradually.
    learned: the learned parts of the format by name, as its ``decode`` takes them; they get a gradient.
    codes: the codes of the weights in their shape, where they stay what they are; None: found from the weights.
    """
    return weight_format.fake_quantize(w_OI, grouping, noise, float_share, learned, codes)


def fake_quantize_activation(x: Tensor, activation_format: ActivationFormat, range_: Tensor | None = None) -> Tensor:
    """``x`` (any shape, features last) as its codes stand for it; the gradient passes unchanged."""
    return straight_through_activation(x, activation_format, range_)
