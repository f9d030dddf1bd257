"""Builds parts of an ONNX graph from standard operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["FLOAT", "INT32", "UINT8", "OnnxBuilder"]

FLOAT, INT32, UINT8 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT8


class OnnxBuilder:
    """Collects nodes and initializers; equal nodes are built only once (common subexpression elimination).

    So linear layers with the same input (query, key, value) share its quantization.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._built: dict[object, str] = {}

    def node(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output, or reuse an equal node if no output name is given; returns the output's name."""
        key = (op, inputs, tuple((name, str(value)) for name, value in sorted(attributes.items())))
        if output is None and key in self._built:
            return self._built[key]
        # Names in a traced graph contain no slash, so this one cannot collide.
        name = output or f"/{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"/node_{len(self.nodes)}", **attributes))
        self._built[key] = name
        return name

    def tensor(self, name: str, array: NDArray[Any]) -> str:
        """Add an initializer called ``name``, unless it exists; returns the name."""
        if (name,) not in self._built:
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
            self._built[(name,)] = name
        return name

    def integers(self, *values: int) -> str:
        """An int64 list, such as a shape or axes."""
        return self.tensor(f"/int64_{'_'.join(map(str, values))}", np.array(values, dtype=np.int64))

    def scalar(self, value: float) -> str:
        """A float32 scalar."""
        return self.tensor(f"/float_{value!r}", np.array(value, dtype=np.float32))

    def cast(self, x: str, to: int) -> str:
        """``x`` cast to the element type ``to``."""
        return self.node("Cast", x, to=to)

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """``x`` reshaped to ``shape``."""
        return self.node("Reshape", x, self.integers(*shape))
