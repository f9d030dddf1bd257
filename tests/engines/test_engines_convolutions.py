"""Convolutional networks in ONNX Runtime and OpenVINO: every padding, groups, pruned and sparse kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import xtc_ds
from tests.checkpoint.pruned_models import Network, config, pruning
from tests.engines.saturation import needs_exact_products
from xtc_ds.engines import export_to

pytest.importorskip("onnxscript", reason="needs onnxscript")

CASES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "binary": ([], {"exclude": []}),
    "static int8": ([], {"bits": 8, "exclude": [], "activation_shared": {"range_calibration": "static"}}),
    "asymmetric": (
        [],
        {
            "bits": 4,
            "exclude": [],
            "shared": {"quantization_type": "asymmetric"},
            "activation_shared": {"quantization_type": "asymmetric"},
        },
    ),
    "floats around": ([], {"exclude": ["conv1", "depthwise"]}),
    "sparse": ([pruning("sparse", 0.25, "conv2")], {"bits": 8, "exclude": []}),
    "shrunk": ([pruning("channel", 0.5, "conv1", ["conv2", "bn1"])], {"exclude": []}),
}

# Those whose weights have 8 bits.
EIGHT_BITS = ("static int8", "sparse")


def frozen_network(case: str) -> tuple[nn.Module, Tensor]:
    blocks, quantized = CASES[case]
    model = Network()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    xtc_ds.compress(model, config(*blocks, quantized=quantized))
    model.train()(torch.randn(4, 3, 8, 8))  # static ranges are seen in training
    return xtc_ds.freeze(model.eval()), torch.randn(5, 3, 8, 8)


def onnx_result(folder: Path, x: Tensor) -> Tensor:
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    session = runtime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def openvino_result(folder: Path, x: Tensor) -> Tensor:
    ov = pytest.importorskip("openvino", reason="needs openvino")
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    return torch.from_numpy(ov.Core().compile_model(folder / "model.xml", "CPU", settings)({"x": x.numpy()})[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=needs_exact_products if case in EIGHT_BITS else ()) for case in CASES]
)
@pytest.mark.parametrize("container", ["onnx", "openvino"])
def test_a_network_gives_the_same(container: str, case: str, tmp_path: Path) -> None:
    model, x = frozen_network(case)
    with torch.no_grad():
        expected = model(x)
    export_to(model, tmp_path / "o", container, sample={"x": x[:2]})
    found = (onnx_result if container == "onnx" else openvino_result)(tmp_path / "o", x)
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))
