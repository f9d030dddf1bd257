"""Quantization of activations, on the same integer grids as weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from xtc_ds.formats.base import Encoded
from xtc_ds.formats.integer import AsymmetricFormat, IntegerFormat

__all__ = ["ActivationFormat"]


@dataclass(frozen=True)
class ActivationFormat:
    """How the input of a layer is quantized.

    bits: 4 or 8.
    symmetric: whether the grid is centred on 0.
    calibration: "dynamic" computes a scale for each token (all dimensions but the last) on every call;
        "static" uses one range for the whole tensor, a running average from training.
    """

    bits: int = 8
    symmetric: bool = True
    calibration: Literal["dynamic", "static"] = "dynamic"

    def encode(self, x: Tensor, range_: Tensor | None = None) -> Encoded:
        """Codes of ``x`` (..., features) as (tokens, features), with scale (tokens, 1), or (1, 1) if static.

        range_: the static (minimum, maximum), shape (2,); required if the calibration is "static".
        """
        grid = IntegerFormat(self.bits) if self.symmetric else AsymmetricFormat(self.bits)
        x_TI = x.reshape(-1, x.shape[-1])
        if self.calibration == "dynamic":
            return grid.encode(x_TI)
        assert range_ is not None
        low, high = range_.float().reshape(2, 1, 1)
        return grid.encode_range(x_TI, low, high)
