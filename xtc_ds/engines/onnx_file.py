"""The container "onnx": packed weights, unpacked by standard operators, and products of 8-bit integers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import helper
from torch import Tensor, nn

from xtc_ds.compression_state import state_of
from xtc_ds.engines.base import Written
from xtc_ds.engines.onnx_builder import OnnxBuilder
from xtc_ds.engines.onnx_floats import store_floats
from xtc_ds.engines.onnx_layers import LAYERS
from xtc_ds.engines.placeholders import DOMAIN
from xtc_ds.engines.takes import Takes
from xtc_ds.engines.tracing import OPSET, packed_layers, traced_graph
from xtc_ds.errors import ExportError
from xtc_ds.runtime.packed import PackedLayer

__all__ = ["onnx_model", "write_onnx"]

ONNX_NAME = "model.onnx"
TAKES = Takes("onnx", embeddings=True, shifted=True)
# A protocol buffer file is limited to 2 GiB.
_LIMIT = 2**31 - 2**20


def write_onnx(frozen: nn.Module, folder: Path, sample: Mapping[str, Tensor] | None = None) -> Written:
    """Write ``model.onnx`` with the model's input and output names; batch size and sequence length are dynamic.

    sample: inputs to trace with; needed only if the model does not take token ids.
    """
    model = onnx_model(frozen, sample)
    large = model.ByteSize() > _LIMIT
    onnx.save_model(model, folder / ONNX_NAME, save_as_external_data=large, location=f"{ONNX_NAME}.data")
    onnx.checker.check_model(folder / ONNX_NAME)
    return Written()


def onnx_model(frozen: nn.Module, sample: Mapping[str, Tensor] | None = None) -> onnx.ModelProto:
    """The whole model in standard ONNX operators. Raises ExportError if it cannot be traced."""
    model = traced_graph(frozen, sample, TAKES)
    _write_out(model.graph, packed_layers(frozen))
    store_floats(model.graph, state_of(frozen).float_dtype)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", OPSET))
    return model


def _write_out(graph: onnx.GraphProto, layers: dict[str, PackedLayer]) -> None:
    """Replace the placeholder nodes of packed layers by standard operators, in place."""
    b = OnnxBuilder()
    first: dict[int, str] = {}
    for node in list(graph.node):
        if node.domain != DOMAIN:
            if node.domain:
                raise ExportError(f"onnx: the model needs the operator {node.domain}::{node.op_type}")
            b.nodes.append(node)
            continue
        name = node.attribute[0].s.decode()
        # Tied layers share one weight, stored under the name of the first.
        owner = first.setdefault(id(layers[name].weight), name)
        result = LAYERS[node.op_type](b, owner, layers[name], *node.input)
        b.nodes.append(helper.make_node("Identity", [result], [node.output[0]], name=f"/{name}/{node.op_type}"))
    del graph.node[:]
    graph.node.extend(b.nodes)
    graph.initializer.extend(b.initializers)
