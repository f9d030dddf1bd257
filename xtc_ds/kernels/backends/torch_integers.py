"""Products and look-ups of codes in plain torch: no compiled kernel needed."""

from __future__ import annotations

from torch import Tensor

from xtc_ds.kernels.backend import Inputs, ProductSpec
from xtc_ds.kernels.backends.conditions import not_a_product_of_codes, not_straight_through, rows_not_alone, slow_on_cpu
from xtc_ds.kernels.integer_product import linear_on_codes
from xtc_ds.kernels.operands import LinearOperands, LinearProduct, Lookup
from xtc_ds.kernels.training import WeightLayout, plain_layout

__all__ = ["TorchIntegerLinear", "TorchIntegerTraining", "TorchLookup"]


class _Torch:
    name = "torch integers"

    def instructions(self) -> str | None:
        """See ``Backend``."""
        return None


class TorchIntegerLinear(_Torch):
    """Int8 codes of the weight, unpacked once and cached, times int8 codes of the input."""

    def refuses(self, spec: ProductSpec, inputs: Inputs) -> str | None:
        """See ``Backend``."""
        return not_a_product_of_codes(spec)

    def bind(self, spec: ProductSpec) -> LinearProduct:
        """See ``Backend``."""
        activation = spec.activation
        assert activation is not None

        def product(x: Tensor, layer: LinearOperands) -> Tensor:
            bias, range_ = layer.float_operands()
            # Unpacking bits is slow without a kernel, so the int8 codes are cached whatever the runtime.
            return linear_on_codes(x, layer.encoded(keep=True), activation, range_, bias)

        return product


class TorchLookup(_Torch):
    """Looks up rows of a table; only the codes of these rows are unpacked and decoded."""

    name = "torch"

    def refuses(self, spec: ProductSpec, inputs: Inputs) -> str | None:
        """See ``Backend``."""
        return "the weight is not stored as codes" if spec.weight_format is None else rows_not_alone(spec)

    def bind(self, spec: ProductSpec) -> Lookup:
        """See ``Backend``."""
        return lambda ids, table: table.decoded_rows(ids.reshape(-1)).reshape(*ids.shape, -1)


class TorchIntegerTraining(_Torch):
    """The same products in training, on devices whose library multiplies integers faster than floats."""

    def refuses(self, spec: ProductSpec, inputs: Inputs) -> str | None:
        """See ``Backend``."""
        reason = not_a_product_of_codes(spec) or not_straight_through(spec)
        if reason is not None:
            return reason
        if inputs.device.type == "cpu":
            return slow_on_cpu()
        if inputs.device.type != "cuda":
            return f"{inputs.device.type} has no product of integers"
        return "cuBLASLt takes sizes that are multiples of 8" if any(size % 8 for size in spec.shape) else None

    def bind(self, spec: ProductSpec) -> WeightLayout:
        """See ``Backend``."""
        return plain_layout
