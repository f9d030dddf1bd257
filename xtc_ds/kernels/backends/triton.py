"""Triton kernels for NVIDIA GPUs (Ampere or newer) and for CPUs in Triton's interpreter. Does not import Triton."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import torch

from xtc_ds.kernels.backend import Inputs, ProductSpec
from xtc_ds.kernels.backends.conditions import not_a_product_of_codes, not_codes_times_scale
from xtc_ds.kernels.triton import MOST_INPUTS, triton_missing

if TYPE_CHECKING:
    from xtc_ds.kernels.triton.packed import TritonProduct

__all__ = ["TritonLinear"]


class TritonLinear:
    """Packed weight codes times input codes or, if inputs are not quantized, times half-precision floats."""

    name = "Triton"

    def refuses(self, spec: ProductSpec, inputs: Inputs) -> str | None:
        """See ``Backend``."""
        reason: str | None = triton_missing(inputs.device) or _weight_refused(spec) or _input_refused(spec, inputs)
        return reason

    def instructions(self) -> str | None:
        """See ``Backend``."""
        return None

    def bind(self, spec: ProductSpec) -> TritonProduct:
        """See ``Backend``."""
        _load()
        from xtc_ds.kernels.triton.packed import TritonProduct

        assert spec.weight_format is not None
        outputs, inputs = spec.shape
        return TritonProduct(spec.weight_format, (outputs, inputs), spec.activation, whole_bytes=spec.unpacked)


def _weight_refused(spec: ProductSpec) -> str | None:
    reason = not_codes_times_scale(spec) if spec.activation is None else not_a_product_of_codes(spec)
    if reason is not None:
        return reason
    if len(spec.shape) != 2 or not 0 < spec.shape[1] <= MOST_INPUTS or spec.shape[0] == 0:
        return f"a weight of shape {spec.shape} is not taken"
    return None


def _input_refused(spec: ProductSpec, inputs: Inputs) -> str | None:
    if spec.activation is not None:
        if 2 <= spec.activation.bits <= 8 and inputs.dtype in (torch.float16, torch.bfloat16, torch.float32):
            return None
        return f"inputs of {inputs.dtype}, quantized to {spec.activation.bits} bits, are not taken"
    # Floats times codes run only in half precision: the tensor cores round float32 to fewer bits.
    if inputs.dtype not in (torch.float16, torch.bfloat16):
        return f"inputs that are not quantized must be in half precision, not {inputs.dtype}"
    if spec.unpacked:
        return "the weight is kept unpacked, as floats"
    return "a gradient of the input is asked for" if inputs.needs_grad else None


# The operators must be registered before a graph is built; the decorator keeps torch.compile from tracing the import.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _load() -> bool:
    importlib.import_module("xtc_ds.kernels.triton.packed")
    return True
