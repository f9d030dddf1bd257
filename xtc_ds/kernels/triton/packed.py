"""A linear layer with a packed weight on the Triton kernels.

With a quantized input the results are bit-identical to ``linear_on_codes``; otherwise they equal the decoded product up
to the order of float sums. The kernels are called directly, or through operators that graphs can contain.

Shape legend: T = tokens, I = input features, O = output features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import xtc_ds.kernels.triton.ops  # noqa: F401  (registers the operators)
from xtc_ds.errors import FormatError
from xtc_ds.formats import ActivationFormat, WeightFormat
from xtc_ds.kernels.eager import is_eager
from xtc_ds.kernels.operands import LinearOperands
from xtc_ds.kernels.per_storage import version_of
from xtc_ds.kernels.triton.linear import TritonWeight, code_product, quantize_input, weight_only_linear
from xtc_ds.kernels.triton.sharing import shared_codes
from xtc_ds.kernels.triton.words import words_of

__all__ = ["TritonProduct"]


@dataclass(frozen=True)
class _Bound:
    """A bound weight and the tensors it was made from; these are kept alive so that their identity stays unique."""

    packed: Tensor
    scale: Tensor
    range_: Tensor | None
    versions: int
    weight: TritonWeight
    scale_O: Tensor
    x_scale: Tensor | None


class TritonProduct:
    """Multiplies inputs with the packed codes (O, I) of one layer; caches the layout of the tensors last seen.

    weight_format: codes times a scale, one per output. activation: symmetric; None: the input stays in half precision.
    whole_bytes: see ``words_of``.
    """

    def __init__(
        self, weight_format: WeightFormat, shape: tuple[int, int], activation: ActivationFormat | None,
        whole_bytes: bool = False,
    ) -> None:  # fmt: skip
        self.weight_format, self.shape, self.whole_bytes = weight_format, shape, whole_bytes
        self.x_bits = None if activation is None else activation.bits
        self._bound: _Bound | None = None

    def __call__(self, x: Tensor, layer: LinearOperands) -> Tensor:
        """Map ``x`` (..., I) to (..., O) in the dtype of ``x``."""
        return self.multiply(x, *layer.packed_operands())

    def multiply(self, x: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None, range_: Tensor | None) -> Tensor:
        """Map ``x`` (..., I) to (..., O) in the dtype of ``x``. Synchronizes with the device on the first call only.

        packed: uint8. scale: (O,) or (1,). bias: (O,). range_: static (minimum, maximum) of ``x``; None if dynamic.
        Raises FormatError if ``x`` does not have I features or is on another device than the weight.
        """
        if not x.dim() or x.shape[-1] != self.shape[1]:
            raise FormatError(f"an input of shape {tuple(x.shape)} for a layer that takes {self.shape[1]} features")
        if x.device != packed.device:
            raise FormatError(
                f"the input is on {x.device}, the packed weight on {packed.device}; move the model or its input"
            )
        y_TO = self._bound_call(x, packed, scale, bias, range_) if is_eager(x) else (
            self._traced_call(x, packed, scale, bias, range_)
        )  # fmt: skip
        return y_TO.reshape(*x.shape[:-1], self.shape[0])

    def _bound_call(
        self, x: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None, range_: Tensor | None
    ) -> Tensor:
        bound = self._bind(packed, scale, range_)
        if self.x_bits is None:
            return weight_only_linear(x.reshape(-1, x.shape[-1]), bound.weight, bound.scale_O, bias)
        if bound.x_scale is None:
            codes = shared_codes(x, self.x_bits)
        else:
            codes = quantize_input(x.reshape(-1, x.shape[-1]), self.x_bits, bound.x_scale)
        return code_product(codes, bound.weight, bound.scale_O, bias, x.dtype)

    def _bind(self, packed: Tensor, scale: Tensor, range_: Tensor | None) -> _Bound:
        # Version counters only grow, so an unchanged sum means that none of them changed.
        versions = sum(version_of(tensor) for tensor in (packed, scale, range_) if tensor is not None)
        bound = self._bound
        if (
            bound is None
            or bound.versions != versions
            or bound.packed is not packed
            or bound.scale is not scale
            or bound.range_ is not range_
        ):
            weight = words_of(packed, self.weight_format, self.shape, self.whole_bytes)
            bound = self._bound = _Bound(
                packed, scale, range_, versions, weight, self._scale_O(scale), self._x_scale(range_)
            )
        return bound

    def _scale_O(self, scale: Tensor) -> Tensor:
        return scale.detach().float().reshape(-1).expand(self.shape[0]).contiguous()

    def _x_scale(self, range_: Tensor | None) -> Tensor | None:
        if range_ is None or self.x_bits is None:
            return None
        x_scale: Tensor = 2 * range_.float().abs().max() / 2**self.x_bits
        return x_scale.reshape(1)

    def _traced_call(
        self, x: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None, range_: Tensor | None
    ) -> Tensor:
        ops, x_TI = torch.ops.xtc_ds, x.reshape(-1, x.shape[-1])
        weight = (packed, self._scale_O(scale), bias, self.weight_format.name, *self.shape, self.whole_bytes)
        y_TO: Tensor
        if self.x_bits is None:
            y_TO = ops.triton_weight_only(x_TI, *weight)
        else:
            codes = ops.triton_quantize(x_TI, self.x_bits, self._x_scale(range_))
            y_TO = ops.triton_product(*codes, *weight, x.dtype)
        return y_TO
