"""Backends on the C kernel, which is compiled on first use and runs on CPUs."""

from __future__ import annotations

import torch
from torch import Tensor

from xtc_ds.kernels.backend import Inputs, ProductSpec
from xtc_ds.kernels.backends.conditions import (
    native_missing,
    not_a_product_of_codes,
    not_straight_through,
    rows_not_alone,
    slow_on_cpu,
)
from xtc_ds.kernels.native import native_library
from xtc_ds.kernels.native.lookup import lookup, stored_form
from xtc_ds.kernels.operands import Lookup, TableOperands
from xtc_ds.kernels.packed_linear import PackedProduct
from xtc_ds.kernels.training import WeightLayout, tiled_layout

__all__ = ["Native", "NativeLinear", "NativeLookup", "NativeTraining"]


class Native:
    """What the native backends have in common."""

    name = "native"

    def instructions(self) -> str | None:
        """See ``Backend``."""
        library = native_library()
        return None if library is None else library.path_name


class NativeLinear(Native):
    """Exact products of int8 input codes and packed weight codes; on the "meta" device it only infers shapes."""

    def refuses(self, spec: ProductSpec, inputs: Inputs) -> str | None:
        """See ``Backend``."""
        if inputs.device.type not in ("cpu", "meta"):
            return f"it runs on CPUs, not on {inputs.device.type}"
        reason: str | None = not_a_product_of_codes(spec) or native_missing()
        return reason

    def bind(self, spec: ProductSpec) -> PackedProduct:
        """See ``Backend``."""
        assert spec.weight_format is not None
        assert spec.activation is not None
        outputs, inputs = spec.shape
        return PackedProduct(spec.weight_format, (outputs, inputs), spec.activation, whole_bytes=spec.unpacked)


class NativeLookup(Native):
    """Looks up rows of a table as float32, unpacking and decoding them in one pass."""

    def refuses(self, spec: ProductSpec, inputs: Inputs) -> str | None:
        """See ``Backend``."""
        reason: str | None = None
        if inputs.device.type != "cpu":
            reason = f"it runs on CPUs, not on {inputs.device.type}"
        elif inputs.dtype != torch.float32:
            reason = f"it gives float32, not {inputs.dtype}"
        elif spec.unpacked or spec.sparse:
            reason = "the codes are kept unpacked"
        elif spec.weight_format is None or stored_form(spec.weight_format) is None:
            reason = f"it does not read {'floats' if spec.weight_format is None else spec.weight_format.name}"
        else:
            reason = rows_not_alone(spec) or native_missing()
        return reason

    def bind(self, spec: ProductSpec) -> Lookup:
        """See ``Backend``."""
        weight_format, (rows, columns) = spec.weight_format, spec.shape
        assert weight_format is not None

        def find(ids: Tensor, table: TableOperands) -> Tensor:
            flat, (packed, scale, zero) = ids.reshape(-1), table.packed_table()
            found = lookup(flat, packed, weight_format, (rows, columns), scale, zero)
            if found is None:  # while tracing, or for invalid ids, for which torch raises the error
                found = table.decoded_rows(flat)
            return found.view(*ids.shape, -1)

        return find


class NativeTraining(Native):
    """The same products in training: codes are recomputed after each step, gradients are straight-through."""

    def refuses(self, spec: ProductSpec, inputs: Inputs) -> str | None:
        """See ``Backend``."""
        if inputs.device.type != "cpu":
            return f"it runs on CPUs, not on {inputs.device.type}"
        reason: str | None = (
            not_a_product_of_codes(spec) or not_straight_through(spec) or native_missing() or slow_on_cpu()
        )
        return reason

    def bind(self, spec: ProductSpec) -> WeightLayout:
        """See ``Backend``."""
        return tiled_layout
