"""Stores the floats of an ONNX graph in the dtype in which the packed checkpoint stores them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from xtc_ds.engines.onnx_builder import FLOAT

__all__ = ["store_floats"]

# Smaller tensors are not worth an additional cast operator.
_SMALL = 64


def store_floats(graph: onnx.GraphProto, float_dtype: str) -> None:
    """Store float32 initializers in 16 bits, followed by a cast to float32, if their values are exact in 16 bits."""
    if float_dtype == "float32":
        return
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != FLOAT or np.prod(tensor.dims) < _SMALL:
            continue
        values = numpy_helper.to_array(tensor)
        stored = _narrow(values, float_dtype)
        if stored is None:
            continue
        casts.append(helper.make_node("Cast", [f"{tensor.name}/stored"], [tensor.name], to=FLOAT))
        stored.name = f"{tensor.name}/stored"
        tensor.CopyFrom(stored)
    for cast in reversed(casts):
        graph.node.insert(0, cast)


def _narrow(values: NDArray[Any], float_dtype: str) -> TensorProto | None:
    if float_dtype == "float16":
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        return numpy_helper.from_array(half) if np.array_equal(half.astype(np.float32), values) else None
    bits = np.ascontiguousarray(values).view(np.uint32)
    if (bits & 0xFFFF).any():
        return None
    raw = (bits >> 16).astype(np.uint16).tobytes()
    return helper.make_tensor("", TensorProto.BFLOAT16, values.shape, raw, raw=True)
