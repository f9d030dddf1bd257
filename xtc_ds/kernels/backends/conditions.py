"""Requirements on weight and machine that several backends share; each function returns a reason to refuse, or None."""

from __future__ import annotations

import torch

from xtc_ds.formats import WeightFormat
from xtc_ds.kernels.backend import ProductSpec
from xtc_ds.kernels.native import native_library
from xtc_ds.kernels.training import cpu_multiplies_integers_fast

__all__ = [
    "native_missing",
    "not_a_product_of_codes",
    "not_codes_times_scale",
    "not_straight_through",
    "rows_not_alone",
    "slow_on_cpu",
]


def not_codes_times_scale(spec: ProductSpec) -> str | None:
    """Why a row of the weight is not 8-bit integer codes times one scale; None if it is."""
    weight_format = spec.weight_format
    if weight_format is None:
        return "the weight is not stored as codes"
    if not weight_format.scaled_codes:
        return f"weights in {weight_format.name} are not codes times a scale"
    low, high = weight_format.code_range
    if low < -128 or high > 127:
        return f"codes of {weight_format.name} take more than 8 bits"
    if spec.masked:
        return "a mask lies beside the codes"
    if not spec.grouping.per_row:
        return "its rows have more than one scale"
    return None


def not_a_product_of_codes(spec: ProductSpec) -> str | None:
    """Why weight and input cannot be multiplied as integers and rescaled once after the sum; None if they can."""
    if spec.activation is None:
        return "its input is not quantized"
    if not spec.activation.symmetric:
        return "its input is quantized asymmetrically"
    return not_codes_times_scale(spec)


def not_straight_through(spec: ProductSpec) -> str | None:
    """Why training on integers would lose a gradient; None if it would not.

    Integer products use the straight-through estimator, so the format must not have another gradient.
    """
    weight_format = spec.weight_format
    if weight_format is None:
        return None
    if weight_format.learned:
        return f"parts of {weight_format.name} are learned"
    if type(weight_format).fake_quantize is not WeightFormat.fake_quantize:
        return f"{weight_format.name} has a gradient of its own"
    return None


def rows_not_alone(spec: ProductSpec) -> str | None:
    """Why a row of a table cannot be decoded on its own; None if it can."""
    if spec.weight_format is None:
        return "the weight is not stored as codes"
    if spec.masked:
        return "a mask lies beside the codes"
    return None if spec.grouping.per_row else "its rows have more than one scale"


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def native_missing() -> str | None:
    """Why the native library is not available; None if it is. The build is attempted once per process."""
    return None if native_library() is not None else "the C kernel is not built here, or XTC_DS_NATIVE=0"


def slow_on_cpu() -> str | None:
    """Why integer products are not worthwhile on this processor; None if they are."""
    return None if cpu_multiplies_integers_fast() else "this processor multiplies floats faster than integers"
