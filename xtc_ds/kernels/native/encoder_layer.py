"""Whole layers of BERT-like encoders in one call: attention, feed-forward, and both residual sums with layer norm."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from xtc_ds.kernels.native.layer import TiledLayer, kept_memory
from xtc_ds.kernels.native.library import native_library
from xtc_ds.kernels.native.linear import STORED

__all__ = ["EncoderLayer", "run_layers"]

# A batch is processed in chunks of this many tokens, so that the scratch memory kept between calls stays bounded.
_TOKENS_AT_ONCE = 4096
_POINTER, _SIZE, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_float


class _Weight(ctypes.Structure):
    """``struct xtc_weight`` of ``encoder.h``."""

    _fields_ = (
        ("tiles", _POINTER), ("sums", _POINTER), ("scale", _POINTER), ("bias", _POINTER), ("inputs", _SIZE),
        ("outputs", _SIZE), ("bits", _INT), ("mul", _INT), ("off", _INT), ("x_bits", _INT), ("x_scale", _FLOAT),
    )  # fmt: skip


class _Encoder(ctypes.Structure):
    """``struct xtc_encoder``."""

    _fields_ = (
        ("linears", _Weight * 6), ("norms", _POINTER * 4), ("eps", _FLOAT * 2), ("attention_scale", _FLOAT),
        ("heads", _INT),
    )  # fmt: skip


class EncoderLayer:
    """One layer for ``run_layers``.

    linears: query, key, value, attention output, and the two feed-forward layers, with GELU between them.
    norms: weight and bias (D,) of the first layer norm, then of the second, contiguous float32. eps: of both norms.
    """

    def __init__(
        self,
        linears: tuple[TiledLayer, ...],
        norms: tuple[Tensor, ...],
        heads: int,
        attention_scale: float,
        eps: tuple[float, float],
    ) -> None:
        self._kept = linears, norms
        self.width = linears[0].weight.inputs
        pointers = (_POINTER * 4)(*(norm.data_ptr() for norm in norms))
        self._struct = _Encoder((_Weight * 6)(*map(_weight, linears)), pointers, eps, attention_scale, heads)
        self.address = ctypes.addressof(self._struct)

    @staticmethod
    def shares_input(linears: tuple[TiledLayer, ...]) -> bool:
        """Whether query, key and value quantize their input equally, as the kernel quantizes once for all three."""
        return len({(linear.x_bits, linear.x_scale) for linear in linears[:3]}) == 1


def run_layers(layers: Sequence[EncoderLayer], x: Tensor, mask: Tensor | None) -> Tensor:
    """Run ``layers`` in sequence on ``x`` (B, T, D), contiguous float32; returns (B, T, D).

    mask: bool, (B or 1, 1, T or 1, T), True where a query may attend to a key.
    """
    library = native_library()
    assert library is not None, "callers ask for the library first"
    B, T, D = x.shape
    threads, count = torch.get_num_threads(), len(layers)
    addresses = (_POINTER * count)(*(layer.address for layer in layers))
    batch, _, query, key = (0, 0, 0, 0) if mask is None else mask.expand(B, 1, T, T).stride()
    strides = (_SIZE * 4)(batch, 0, query, key)
    y = torch.empty_like(x)
    at_once = max(1, _TOKENS_AT_ONCE // T)
    for first in range(0, B, at_once):
        samples, place = min(at_once, B - first), 4 * first * T * D
        status = library.encoder_layers(
            addresses, count, x.data_ptr() + place, None if mask is None else mask.data_ptr() + first * batch, strides,
            samples, T, y.data_ptr() + place,
            kept_memory(library.encoder_scratch_bytes(addresses, count, samples, T, threads)), threads,
        )  # fmt: skip
        assert status == 0, "the kernel refused its arguments"
    return y


def _weight(layer: TiledLayer) -> _Weight:
    weight, bias = layer.weight, layer.bias
    return _Weight(
        weight.tiles.data_ptr(), weight.sums.data_ptr(), layer.scale.data_ptr(),
        None if bias is None else bias.data_ptr(), weight.inputs, layer.outputs, weight.bits,
        *STORED[weight.bits][:2], layer.x_bits, -1.0 if layer.x_scale is None else layer.x_scale,
    )  # fmt: skip
