"""A linear layer with a packed weight on the native kernel, which quantizes the input itself.

The results are bit-identical to ``linear_on_codes``: the integer product is exact and is rescaled in the same order.
There are two ways to call the kernel: ``PackedProduct``, which is bound once and has little overhead, and the operator
``torch.ops.xtc_ds.packed_linear``, which ``torch.compile`` and ``torch.export`` can trace.

Shape legend: T = tokens, I = input features, O = output features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xtc_ds.errors import FormatError
from xtc_ds.formats import ActivationFormat, WeightFormat, get_format
from xtc_ds.kernels.eager import is_eager
from xtc_ds.kernels.native import TiledLayer
from xtc_ds.kernels.native.packed_tiles import tiles_of
from xtc_ds.kernels.operands import LinearOperands
from xtc_ds.kernels.per_storage import version_of

__all__ = ["PackedProduct"]

_KERNEL_DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class _Bound:
    """A bound layer and the tensors it was made from; these are kept alive so that their identity stays unique."""

    packed: Tensor
    scale: Tensor
    bias: Tensor | None
    range_: Tensor | None
    versions: int
    layer: TiledLayer


class PackedProduct:
    """Multiplies inputs with the packed codes (O, I) of one layer; caches the layout of the tensors last seen.

    weight_format: codes times a scale. activation: symmetric. whole_bytes: see ``tiles_of``.
    """

    def __init__(
        self, weight_format: WeightFormat, shape: tuple[int, int], activation: ActivationFormat, whole_bytes: bool
    ) -> None:
        self.weight_format, self.shape, self.x_bits, self.whole_bytes = (
            weight_format, shape, activation.bits, whole_bytes
        )  # fmt: skip
        self._bound: _Bound | None = None

    def __call__(self, x: Tensor, layer: LinearOperands) -> Tensor:
        """Map ``x`` (..., I) to (..., O) in the dtype of ``x``.

        Raises FormatError if ``x`` does not have I features or the layer is on another device than ``x``.
        """
        packed, scale, bias, range_ = layer.packed_operands()
        if x.device.type != "cpu" or not is_eager(x):
            result: Tensor = torch.ops.xtc_ds.packed_linear(
                x, packed, scale, bias, range_, self.weight_format.name, *self.shape, self.x_bits, self.whole_bytes
            )
            return result
        return _run(self.layer(packed, scale, bias, range_), x)

    def layer(self, packed: Tensor, scale: Tensor, bias: Tensor | None, range_: Tensor | None) -> TiledLayer:
        """The layer bound to these tensors; the same object until one of them changes."""
        # Versions only grow, so that comparing their sum is enough.
        versions = version_of(packed) + version_of(scale) + (0 if bias is None else version_of(bias))
        if range_ is not None:
            versions += version_of(range_)
        bound = self._bound
        if (
            bound is None
            or bound.versions != versions
            or bound.packed is not packed
            or bound.scale is not scale
            or bound.bias is not bias
            or bound.range_ is not range_
        ):
            layer = _bind(packed, scale, bias, range_, self.weight_format, self.shape, self.x_bits, self.whole_bytes)
            bound = self._bound = _Bound(packed, scale, bias, range_, versions, layer)
        return bound.layer


def _bind(
    packed: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    range_: Tensor | None,
    weight_format: WeightFormat,
    shape: tuple[int, int],
    x_bits: int,
    whole_bytes: bool,
) -> TiledLayer:
    if any(tensor is not None and tensor.device.type != "cpu" for tensor in (packed, scale, bias, range_)):
        raise FormatError(f"the input is on the CPU, the packed weight on {packed.device}; move the model or its input")
    weight = tiles_of(packed, weight_format, shape, whole_bytes)
    x_scale = None if range_ is None else float(2 * range_.float().abs().max() / 2**x_bits)
    return TiledLayer(weight, scale.detach().float().expand(shape[0]), bias, x_bits, x_scale)


def _run(layer: TiledLayer, x: Tensor) -> Tensor:
    if not x.dim() or x.shape[-1] != layer.weight.inputs:
        raise FormatError(f"an input of shape {tuple(x.shape)} for a layer that takes {layer.weight.inputs} features")
    x_TI = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
    y_TO = layer(x_TI) if x.dtype in _KERNEL_DTYPES else layer(x_TI.float()).to(x.dtype)
    return y_TO if x.dim() == 2 else y_TO.view(*x.shape[:-1], layer.outputs)


@torch.library.custom_op("xtc_ds::packed_linear", mutates_args=(), device_types="cpu")
def _packed_linear(
    x: Tensor,
    packed: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    range_: Tensor | None,
    weight_format: str,
    outputs: int,
    inputs: int,
    x_bits: int,
    whole_bytes: bool,
) -> Tensor:
    shape = (outputs, inputs)
    return _run(_bind(packed, scale, bias, range_, get_format(weight_format), shape, x_bits, whole_bytes), x)


@_packed_linear.register_fake
def _(
    x: Tensor,
    packed: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    range_: Tensor | None,
    weight_format: str,
    outputs: int,
    inputs: int,
    x_bits: int,
    whole_bytes: bool,
) -> Tensor:
    torch._check(x.shape[-1] == inputs)  # type: ignore[no-untyped-call]
    return x.new_empty((*x.shape[:-1], outputs))
