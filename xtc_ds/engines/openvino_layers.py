"""Builds packed layers from OpenVINO operators, with the same numerics as the frozen model.

Shape legend: I = input features, O = output features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from openvino import opset15 as ops

from xtc_ds.engines.byte_tables import byte_table, codes_per_byte, rows_of_bytes
from xtc_ds.engines.openvino_constants import codes_of_layer, constant
from xtc_ds.engines.placeholders import range_axes
from xtc_ds.formats import AffineFormat
from xtc_ds.layers import RangeObserver
from xtc_ds.runtime.packed import PackedLayer

__all__ = ["LAYERS"]


def integer_linear(layer: PackedLayer, x: Any) -> Any:
    """Map ``x`` (..., I) to (..., O), without the bias.

    OpenVINO's integer products require a constant input range, but a dynamic range is known only at run time. So the
    codes themselves are fake-quantized with a constant range, which does not change them, and the scales are applied
    after the product.
    """
    scale = _input_scale(layer, x)
    codes = ops.fake_quantize(_codes(layer, x, scale), *(_f(v) for v in (-128, 127, -128, 127)), 256)
    # OpenVINO recognizes int8 codes times a scale as an 8-bit weight, and applies the scale after the product.
    weight = ops.multiply(ops.convert(codes_of_layer(layer), "f32"), _column(layer.weight_scale))
    return ops.multiply(ops.matmul(codes, weight, False, True), scale)


def fake_quantize(layer: PackedLayer, x: Any) -> Any:
    """``x`` quantized and dequantized as the layer's activation format does."""
    activation = layer.spec.activation
    assert activation is not None
    if activation.symmetric:
        scale = _input_scale(layer, x)
        return ops.multiply(_codes(layer, x, scale), scale)
    levels = 2**activation.bits
    if activation.calibration == "static":
        low, high = (_f(value) for value in _static_range(layer))
    else:
        low, high = (
            reduce(x, constant(np.array(range_axes(layer.spec))), True) for reduce in (ops.reduce_min, ops.reduce_max)
        )
    scale = ops.divide(ops.subtract(high, low), _f(levels))
    step = _nonzero(scale)
    zero = ops.multiply(ops.round(ops.divide(low, step), "half_to_even"), scale)
    zero = ops.select(ops.equal(scale, _f(0)), low, zero)
    codes = ops.clamp(ops.round(ops.divide(ops.subtract(x, zero), step), "half_to_even"), 0, levels - 1)
    return ops.add(ops.multiply(codes, scale), zero)


def decoded_weight(layer: PackedLayer) -> Any:
    """The decoded float32 weight in the spec's shape; folded to a constant when the model is compiled."""
    spec = layer.spec
    values = ops.convert(codes_of_layer(layer), "f32")
    values = ops.reshape(values, constant(np.array([spec.grouping.count(spec.shape), -1])), False)
    parts = {key: _column(part) for key, part in layer.parts().items()}
    weight = ops.reshape(_decode(layer, values, parts), constant(np.array(spec.shape)), False)
    mask = layer.mask() if spec.masked else None
    if mask is None:
        return weight
    kept = mask.cpu()
    return ops.select(constant(kept.numpy()), weight, _f(0))


def embedding(layer: PackedLayer, ids: Any) -> Any:
    """Map ids (...) to vectors (..., D). The table stays packed: only rows that are looked up are unpacked."""
    spec, axis = layer.spec, constant(np.array(0))
    if spec.grouping.kind == "group" or spec.masked:
        return ops.gather(decoded_weight(layer), ids, axis)
    per_byte = codes_per_byte(spec.weight_format)
    if per_byte > 1:
        found = ops.convert(ops.gather(constant(rows_of_bytes(layer).numpy()), ids, axis), "i32")
        codes = ops.gather(constant(byte_table(spec.weight_format, per_byte).numpy()), found, axis)
        lead = ops.shape_of(ids)
        codes = ops.reshape(codes, ops.concat([lead, constant(np.array([-1]))], 0), False)
        start, stop, step, last = (constant(np.array([v])) for v in (0, spec.shape[1], 1, -1))
        codes = ops.slice(codes, start, stop, step, last)
    else:
        codes = ops.gather(codes_of_layer(layer), ids, axis)

    def of_rows(values: Any) -> Any:
        return _column(values) if values.numel() == 1 else ops.gather(_column(values), ids, axis)

    return _decode(layer, ops.convert(codes, "f32"), {key: of_rows(part) for key, part in layer.parts().items()})


#: placeholder operator to the function that builds its replacement
LAYERS: dict[str, Callable[..., Any]] = {
    "Linear": integer_linear,
    "FakeQuantize": fake_quantize,
    "Weight": decoded_weight,
    "Embedding": embedding,
}


def _codes(layer: PackedLayer, x: Any, scale: Any) -> Any:
    assert layer.spec.activation is not None
    half = 2 ** (layer.spec.activation.bits - 1)
    return ops.clamp(ops.round(ops.divide(x, _nonzero(scale)), "half_to_even"), -half, half - 1)


def _input_scale(layer: PackedLayer, x: Any) -> Any:
    activation = layer.spec.activation
    assert activation is not None
    if activation.calibration == "static":
        return _f(2 * max(abs(value) for value in _static_range(layer)) / 2**activation.bits)
    largest = ops.reduce_max(ops.abs(x), constant(np.array(range_axes(layer.spec))), True)
    return ops.multiply(largest, _f(2 / 2**activation.bits))


def _decode(layer: PackedLayer, values: Any, parts: dict[str, Any]) -> Any:
    weight_format = layer.spec.weight_format
    assert isinstance(weight_format, AffineFormat), "others are decoded before they are traced"
    offset = weight_format.code_offset
    values = ops.multiply(ops.add(values, _f(offset)) if offset else values, parts["scale"])
    return ops.add(values, parts["zero"]) if weight_format.has_zero else values


def _nonzero(scale: Any) -> Any:
    return ops.select(ops.equal(scale, _f(0)), _f(1), scale)


def _static_range(layer: PackedLayer) -> list[float]:
    observer = layer.activation_quantizer
    assert isinstance(observer, RangeObserver)
    return observer.x_min_max.float().tolist()


def _column(values: Any) -> Any:
    return constant(values.detach().float().cpu().numpy().reshape(-1, 1))


def _f(value: float) -> Any:
    return constant(np.float32(value))
