"""Modules that replace packed layers while a model is traced; each emits graph nodes that name their layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from xtc_ds.engines.takes import Takes
from xtc_ds.errors import ExportError
from xtc_ds.kernels.backends.conditions import not_a_product_of_codes
from xtc_ds.runtime.packed import PackedLayer, PackedSpec
from xtc_ds.runtime.packed_layers import PackedConv2d

__all__ = ["DOMAIN", "placeholder", "range_axes", "uses_integers"]

DOMAIN = "xtc"


def uses_integers(spec: PackedSpec) -> bool:
    """Whether the layer computes a product of integer codes that is rescaled once."""
    return spec.kind == "linear" and not_a_product_of_codes(spec.product()) is None


def range_axes(spec: PackedSpec) -> tuple[int, ...]:
    """Dimensions of an input that a dynamic range covers: the features of a token, or a whole sample."""
    return (-3, -2, -1) if spec.kind == "conv2d" else (-1,)


def placeholder(takes: Takes, name: str, module: nn.Module) -> nn.Module | None:
    """The module that replaces ``module`` of the frozen model for tracing; None if it is traced itself.

    takes: which weights the container stores as codes. Raises ExportError for a packed layer without a placeholder.
    """
    if type(module) is nn.Conv2d and module.padding_mode == "circular":
        return _WrappedConv(module)
    if not isinstance(module, PackedLayer):
        return None
    made = _PLACEHOLDERS.get(module.spec.kind)
    if made is None:
        raise ExportError(f"{name}: a packed layer of the kind '{module.spec.kind}' has no form in other engines")
    return made(name, module, takes)


def _node(op: str, name: str, inputs: tuple[Tensor, ...], shape: tuple[Any, ...]) -> Tensor:
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::{op}", inputs, {"layer": name}, dtype=torch.float32, shape=shape, version=1
    )


class _Placeholder(nn.Module):
    def __init__(self, name: str, layer: PackedLayer, takes: Takes) -> None:
        super().__init__()
        self.name, self.spec = name, layer.spec
        bias = getattr(layer, "bias", None)
        self.bias = None if bias is None else nn.Parameter(bias.detach().float(), requires_grad=False)
        self.on_codes = takes.as_codes(name, layer.spec)
        if not self.on_codes:
            self.weight = nn.Parameter(layer.dense_weight().detach(), requires_grad=False)

    def quantized(self, x: Tensor) -> Tensor:
        return x if self.spec.activation is None else _node("FakeQuantize", self.name, (x,), tuple(x.shape))

    def decoded(self) -> Tensor:
        return _node("Weight", self.name, (), self.spec.shape) if self.on_codes else self.weight


class _Linear(_Placeholder):
    def forward(self, x: Tensor) -> Tensor:
        if uses_integers(self.spec):
            y = _node("Linear", self.name, (x,), (*x.shape[:-1], self.spec.shape[0]))
            return y if self.bias is None else y + self.bias
        return nn.functional.linear(self.quantized(x), self.decoded(), self.bias)


class _Table(_Placeholder):
    def forward(self, ids: Tensor) -> Tensor:
        if not self.on_codes:
            return nn.functional.embedding(ids, self.weight)
        return _node("Embedding", self.name, (ids,), (*ids.shape, self.spec.shape[1]))


class _Conv(_Placeholder):
    def __init__(self, name: str, layer: PackedConv2d, takes: Takes) -> None:
        super().__init__(name, layer, takes)
        self.convolution = layer.__dict__["convolution"]

    def forward(self, x: Tensor) -> Tensor:
        return _convolved(self.convolution, self.quantized(x), self.decoded(), self.bias)


class _WrappedConv(nn.Module):
    """A float convolution with circular padding."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        return _convolved(self.convolution, x, self.convolution.weight, self.convolution.bias)


def _convolved(convolution: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x`` (N, I, H, W) or (I, H, W) through a convolution with the geometry of ``convolution``.

    Circular padding is composed of slices and concatenations, because opset 18 has no operator for it.
    """
    if convolution.padding_mode != "circular":
        y: Tensor = convolution._conv_forward(x, weight, bias)
        return y
    left, right, top, bottom = convolution._reversed_padding_repeated_twice
    x = _wrapped(_wrapped(x, -1, left, right), -2, top, bottom)
    return nn.functional.conv2d(x, weight, bias, convolution.stride, 0, convolution.dilation, convolution.groups)


def _wrapped(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    size = x.shape[axis]
    parts = [x.narrow(axis, size - before, before)] if before else []
    parts += [x, x.narrow(axis, 0, after)] if after else [x]
    return torch.cat(parts, axis) if len(parts) > 1 else x


_PLACEHOLDERS: dict[str, Callable[[str, Any, Takes], nn.Module]] = {
    "linear": _Linear,
    "embedding": _Table,
    "conv2d": _Conv,
}
