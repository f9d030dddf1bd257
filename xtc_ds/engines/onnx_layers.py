"""Builds packed layers from standard ONNX operators, with the same numerics as the frozen model.

Shape legend: T = tokens, I = input features, O = output features, G = scale groups.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from xtc_ds.engines.onnx_builder import FLOAT, UINT8, OnnxBuilder
from xtc_ds.engines.onnx_unpack import codes_of_layer, codes_of_rows
from xtc_ds.engines.placeholders import range_axes
from xtc_ds.formats import AffineFormat
from xtc_ds.layers import RangeObserver
from xtc_ds.runtime.packed import PackedLayer

__all__ = ["LAYERS"]


def integer_linear(b: OnnxBuilder, name: str, layer: PackedLayer, x: str) -> str:
    """Map float ``x`` (..., I) to (..., O), without the bias: an exact product of codes, rescaled."""
    x_TI = b.reshape(x, (-1, layer.spec.shape[1]))
    scale_T1 = input_scale(b, layer, x_TI)
    # Engines are fastest with unsigned inputs, so 128 is added to the codes; MatMulInteger subtracts it as zero point.
    middle = b.tensor("/uint8_128", np.array(128, dtype=np.uint8))
    codes_TI = unsigned_codes(b, layer, x_TI, scale_T1, middle)
    w_IO = b.node("Transpose", codes_of_layer(b, name, layer), perm=[1, 0])
    y = b.cast(b.node("MatMulInteger", codes_TI, w_IO, middle), FLOAT)
    y = b.node("Mul", b.node("Mul", y, scale_T1), b.tensor(f"{name}.weight_scale", _floats(layer.weight_scale)))
    lead = b.node("Slice", b.node("Shape", x), b.integers(0), b.integers(-1), b.integers(0))
    return b.node("Reshape", y, b.node("Concat", lead, b.integers(layer.spec.shape[0]), axis=0))


def input_scale(b: OnnxBuilder, layer: PackedLayer, x: str) -> str:
    """The scale of a symmetrically quantized input: (..., 1), or () if static."""
    activation = layer.spec.activation
    assert activation is not None and activation.symmetric
    if activation.calibration == "static":
        return b.scalar(_static_range(layer, lambda low, high: 2 * max(abs(low), abs(high)) / 2**activation.bits))
    largest = b.node("ReduceMax", b.node("Abs", x), b.integers(*range_axes(layer.spec)), keepdims=1)
    return b.node("Mul", largest, b.scalar(2 / 2**activation.bits))


def unsigned_codes(b: OnnxBuilder, layer: PackedLayer, x_TI: str, scale: str, middle: str) -> str:
    """Codes + 128 of a symmetrically quantized input, as uint8."""
    activation = layer.spec.activation
    assert activation is not None
    if activation.bits == 8:
        # QuantizeLinear rounds like ActivationFormat: x / scale, ties to even, clipped to 8 bits.
        step = _nonzero(b, scale)
        if activation.calibration == "static":
            return b.node("QuantizeLinear", x_TI, step, middle)
        step_T = b.reshape(step, (-1,))
        middle_T = b.node("Expand", middle, b.node("Shape", step_T))
        return b.node("QuantizeLinear", x_TI, step_T, middle_T, axis=0)
    return b.cast(b.node("Add", signed_codes(b, layer, x_TI, scale), b.scalar(128.0)), UINT8)


def signed_codes(b: OnnxBuilder, layer: PackedLayer, x: str, scale: str) -> str:
    """Codes of a symmetrically quantized input, as floats."""
    assert layer.spec.activation is not None
    half = 2 ** (layer.spec.activation.bits - 1)
    rounded = b.node("Round", b.node("Div", x, _nonzero(b, scale)))
    return b.node("Clip", rounded, b.scalar(float(-half)), b.scalar(float(half - 1)))


def fake_quantize(b: OnnxBuilder, name: str, layer: PackedLayer, x: str) -> str:
    """``x`` quantized and dequantized as the layer's activation format does."""
    activation = layer.spec.activation
    assert activation is not None
    if activation.symmetric:
        scale = input_scale(b, layer, x)
        return b.node("Mul", signed_codes(b, layer, x, scale), scale)
    levels = 2**activation.bits
    if activation.calibration == "static":
        low, high = (b.scalar(_static_range(layer, pick)) for pick in (lambda a, z: a, lambda a, z: z))
    else:
        low, high = (
            b.node(op, x, b.integers(*range_axes(layer.spec)), keepdims=1) for op in ("ReduceMin", "ReduceMax")
        )
    scale = b.node("Div", b.node("Sub", high, low), b.scalar(float(levels)))
    step = _nonzero(b, scale)
    zero = b.node("Mul", b.node("Round", b.node("Div", low, step)), scale)
    zero = b.node("Where", b.node("Equal", scale, b.scalar(0.0)), low, zero)
    codes = b.node("Round", b.node("Div", b.node("Sub", x, zero), step))
    codes = b.node("Clip", codes, b.scalar(0.0), b.scalar(float(levels - 1)))
    return b.node("Add", b.node("Mul", codes, scale), zero)


def decoded_weight(b: OnnxBuilder, name: str, layer: PackedLayer) -> str:
    """The decoded float32 weight in the spec's shape; engines fold it to a constant when they load the file."""
    spec = layer.spec
    groups = spec.grouping.count(spec.shape)
    values = b.reshape(b.cast(codes_of_layer(b, name, layer), FLOAT), (groups, -1))
    parts = {key: b.tensor(f"{name}.weight_{key}", _floats(part)) for key, part in layer.parts().items()}
    weight = b.reshape(_decode(b, layer, values, parts), spec.shape)
    mask = layer.mask() if spec.masked else None
    if mask is None:
        return weight
    kept = mask.cpu()
    return b.node("Where", b.tensor(f"{name}.weight_mask", kept.numpy()), weight, b.scalar(0.0))


def embedding(b: OnnxBuilder, name: str, layer: PackedLayer, ids: str) -> str:
    """Map ids (...) to vectors (..., D). The table stays packed: only rows that are looked up are unpacked."""
    spec = layer.spec
    if spec.grouping.kind == "group" or spec.masked:
        return b.node("Gather", decoded_weight(b, name, layer), ids, axis=0)
    codes = b.cast(codes_of_rows(b, name, layer, ids), FLOAT)

    def of_rows(key: str, values_G1: Tensor) -> str:
        table = b.tensor(f"{name}.weight_{key}", _floats(values_G1))
        return table if len(values_G1) == 1 else b.node("Gather", table, ids, axis=0)

    return _decode(b, layer, codes, {key: of_rows(key, part) for key, part in layer.parts().items()})


#: placeholder operator to the function that builds its replacement
LAYERS: dict[str, Callable[..., str]] = {
    "Linear": integer_linear,
    "FakeQuantize": fake_quantize,
    "Weight": decoded_weight,
    "Embedding": embedding,
}


def _decode(b: OnnxBuilder, layer: PackedLayer, values: str, parts: dict[str, str]) -> str:
    weight_format = layer.spec.weight_format
    assert isinstance(weight_format, AffineFormat), "others are decoded before they are traced"
    if weight_format.code_offset:
        values = b.node("Add", values, b.scalar(float(weight_format.code_offset)))
    values = b.node("Mul", values, parts["scale"])
    return b.node("Add", values, parts["zero"]) if weight_format.has_zero else values


def _nonzero(b: OnnxBuilder, scale: str) -> str:
    return b.node("Where", b.node("Equal", scale, b.scalar(0.0)), b.scalar(1.0), scale)


def _static_range(layer: PackedLayer, pick: Callable[[float, float], float]) -> float:
    observer = layer.activation_quantizer
    assert isinstance(observer, RangeObserver)
    low, high = observer.x_min_max.float().tolist()
    return pick(low, high)


def _floats(values: Tensor) -> NDArray[np.float32]:
    floats: NDArray[np.float32] = values.detach().float().cpu().numpy()
    return floats
