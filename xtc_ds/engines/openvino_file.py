"""The container "openvino": an OpenVINO IR with constants of 1 to 8 bits and products of 8-bit integers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import openvino as ov
from openvino.frontend.onnx import ConversionExtension
from torch import Tensor, nn

from xtc_ds.compression_state import state_of
from xtc_ds.engines.base import Written
from xtc_ds.engines.onnx_floats import store_floats
from xtc_ds.engines.openvino_layers import LAYERS
from xtc_ds.engines.placeholders import DOMAIN
from xtc_ds.engines.takes import Takes
from xtc_ds.engines.tracing import packed_layers, traced_graph
from xtc_ds.errors import ExportError

__all__ = ["write_openvino"]

TAKES = Takes("openvino", embeddings=True, shifted=True)


def write_openvino(frozen: nn.Module, folder: Path, sample: Mapping[str, Tensor] | None = None) -> Written:
    """Write ``model.xml`` and ``model.bin`` with the model's input and output names; batch and sequence are dynamic.

    sample: inputs to trace with; needed only if the model does not take token ids.
    """
    model = traced_graph(frozen, sample, TAKES)
    store_floats(model.graph, state_of(frozen).float_dtype)
    layers = packed_layers(frozen)

    def converter(op: str) -> Any:
        def convert(node: Any) -> list[Any]:
            inputs = [node.get_input(index) for index in range(node.get_input_size())]
            return [LAYERS[op](layers[node.get_attribute("layer")], *inputs).output(0)]

        return convert

    core = ov.Core()
    for op in LAYERS:
        core.add_extension(ConversionExtension(op, DOMAIN, converter(op)))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        file = Path(scratch) / "traced.onnx"
        onnx.save_model(model, file)
        try:
            # read_model keeps the small constants; convert_model would widen them.
            ov.save_model(core.read_model(file), folder / "model.xml", compress_to_fp16=False)
        except RuntimeError as error:
            raise ExportError(f"openvino: cannot read the traced model; use the container onnx: {error}") from error
    return Written()
