"""ONNX files: exact, small, of standard operators, and unpacked once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import xtc_ds
from tests.engines.engine_models import (
    DECODED_LAYERS,
    INPUTS,
    block,
    exported,
    frozen,
    logits,
    numpy_inputs,
    side_by_side,
)
from tests.engines.saturation import EXACT_LAYERS, needs_exact_products
from tests.tiny import batch
from xtc_ds.engines import export_to
from xtc_ds.errors import ExportError

onnx = pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxscript", reason="needs onnxscript")
ort = pytest.importorskip("onnxruntime", reason="needs onnxruntime")

pytestmark = pytest.mark.slow


def session(folder: Path, optimized: Path | None = None) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    return exported(tmp_path_factory.mktemp("mixed") / "onnx", "onnx")


@needs_exact_products
@pytest.mark.parametrize(("rows", "tokens"), [(4, 9), (1, 30), (3, 3)])
def test_logits_agree_for_every_format_batch_and_length(mixed: tuple[Any, Path], rows: int, tokens: int) -> None:
    model, folder = mixed
    engine, inputs = session(folder), batch(rows, tokens, seed=rows, labels=False)
    (found,) = engine.run(["logits"], numpy_inputs([i.name for i in engine.get_inputs()], inputs))
    assert torch.allclose(torch.from_numpy(found), logits(model, **inputs), atol=1e-3, rtol=0)


def test_the_file_has_standard_operators_and_packed_weights_alone(mixed: tuple[Any, Path], tmp_path: Path) -> None:
    model, folder = mixed
    graph = onnx.load(folder / "model.onnx")
    assert [entry.domain for entry in graph.opset_import] == [""] and {node.domain for node in graph.graph.node} == {""}
    assert "MatMulInteger" in {node.op_type for node in graph.graph.node}
    packed = xtc_ds.export_packed(model, tmp_path / "packed").tensor_bytes
    # Tables that turn bytes into codes have a size of their own, whatever that of the model.
    stored = sum(len(t.raw_data) for t in graph.graph.initializer if not t.name.startswith("/"))
    assert stored <= 1.3 * packed


def test_weights_are_unpacked_when_the_file_is_loaded(mixed: tuple[Any, Path], tmp_path: Path) -> None:
    session(mixed[1], tmp_path / "optimized.onnx")
    graph = onnx.load(tmp_path / "optimized.onnx").graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    weights = [constants[node.input[1]] for node in graph.node if node.op_type == "MatMulInteger"]
    assert len(weights) == 13 and {tensor.data_type for tensor in weights} == {onnx.TensorProto.INT8}
    # The table of words is not: its rows are unpacked as they are looked up.
    assert list(constants["bert.embeddings.word_embeddings.weight_rows"].dims) == [100, 7]


@pytest.mark.parametrize("bits", [8, 4])
def test_layers_of_integers_give_the_same_bits(bits: int, tmp_path: Path) -> None:
    calibration = {8: "dynamic", 4: "static"}[bits]
    model, x = side_by_side(EXACT_LAYERS, {"bits": bits, "range_calibration": calibration})
    export_to(model, tmp_path / "o", "onnx", sample={"x": x[:2]})
    engine = session(tmp_path / "o")
    for name, expected in model(x).items():
        assert torch.equal(torch.from_numpy(engine.run([name], {"x": x.numpy()})[0]), expected), name


@pytest.mark.parametrize(("calibration", "grid"), [("dynamic", "symmetric"), ("static", "asymmetric")])
def test_other_layers_compute_with_decoded_weights(calibration: str, grid: str, tmp_path: Path) -> None:
    inputs = {"quantization_type": "asymmetric", "range_calibration": calibration}
    model, x = side_by_side(DECODED_LAYERS, inputs, quantization_type=grid)
    export_to(model, tmp_path / "o", "onnx", sample={"x": x[:2]})
    engine = session(tmp_path / "o")
    for name, expected in model(x).items():
        assert torch.allclose(torch.from_numpy(engine.run([name], {"x": x.numpy()})[0]), expected, atol=1e-5), name


def test_transposed_layers(tmp_path: Path) -> None:
    model = frozen("gpt2", block({"all": ({"target_bits": 1}, ["attn|mlp|wte"])}, {}), layers=1)
    export_to(model, tmp_path / "o", "onnx")
    engine = session(tmp_path / "o")
    (found,) = engine.run(["logits"], numpy_inputs([i.name for i in engine.get_inputs()], INPUTS))
    assert torch.allclose(torch.from_numpy(found), logits(model), atol=1e-3, rtol=0)


def test_a_model_of_unknown_inputs_asks_for_a_sample(tmp_path: Path) -> None:
    model, _ = side_by_side({"binary": {"target_bits": 1}}, {})
    with pytest.raises(ExportError, match="sample"):
        export_to(model, tmp_path / "o", "onnx")
    assert not list(tmp_path.iterdir())
