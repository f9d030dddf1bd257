"""Float products with the decoded weight. These backends support every format, built-in or registered later."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from xtc_ds.formats import fake_quantize_activation
from xtc_ds.kernels.backend import Inputs, ProductSpec
from xtc_ds.kernels.operands import LinearOperands, LinearProduct, Lookup

__all__ = ["DecodedLinear", "DecodedLookup", "FakeQuantized"]


class _Floats:
    def refuses(self, spec: ProductSpec, inputs: Inputs) -> str | None:
        """Always None: nothing is refused."""
        return None

    def instructions(self) -> str | None:
        """See ``Backend``."""
        return None


class DecodedLinear(_Floats):
    """The decoded weight times the fake-quantized input."""

    name = "decoded"

    def bind(self, spec: ProductSpec) -> LinearProduct:
        """See ``Backend``."""
        activation = spec.activation

        def product(x: Tensor, layer: LinearOperands) -> Tensor:
            bias, range_ = layer.float_operands()
            if activation is not None:
                x = fake_quantize_activation(x, activation, range_)
            return F.linear(x, layer.used_weight(x.dtype), bias)

        return product


class DecodedLookup(_Floats):
    """Rows of the decoded table."""

    name = "decoded"

    def bind(self, spec: ProductSpec) -> Lookup:
        """See ``Backend``."""
        return lambda ids, table: F.embedding(ids, table.used_weight(table.dtype))


class FakeQuantized(_Floats):
    """Training on floats: the layer itself fake-quantizes weight and input and multiplies the results."""

    name = "fake quantization"

    def bind(self, spec: ProductSpec) -> None:
        """Returns None: no codes are stored."""
