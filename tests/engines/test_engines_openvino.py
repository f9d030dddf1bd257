"""OpenVINO files: exact, small, and computed with 8-bit integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import xtc_ds
from tests.engines.engine_models import DECODED_LAYERS, exported, logits, numpy_inputs, side_by_side
from tests.engines.saturation import EXACT_LAYERS, needs_exact_products
from tests.tiny import batch
from xtc_ds.engines import export_to
from xtc_ds.formats import get_format

ov = pytest.importorskip("openvino", reason="needs openvino")
pytest.importorskip("onnxscript", reason="needs onnxscript")

pytestmark = pytest.mark.slow


def compiled(folder: Path) -> Any:
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    return ov.Core().compile_model(folder / "model.xml", "CPU", settings)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    return exported(tmp_path_factory.mktemp("mixed") / "openvino", "openvino")


@needs_exact_products
def test_logits_agree_and_products_are_of_8_bit_integers(mixed: tuple[Any, Path]) -> None:
    model, folder = mixed
    engine = compiled(folder)
    for rows, tokens in ((4, 9), (1, 30)):
        inputs = batch(rows, tokens, seed=rows, labels=False)
        found = engine(numpy_inputs([i.any_name for i in engine.inputs], inputs))["logits"]
        assert torch.allclose(torch.from_numpy(found), logits(model, **inputs), atol=1e-3, rtol=0)
    layers = [node.get_rt_info() for node in engine.get_runtime_model().get_ops()]
    used = [info["runtimePrecision"].get() for info in layers if info["layerType"].get() == "FullyConnected"]
    assert used.count("i8") == 13


def test_the_file_is_as_small_as_the_packed_one(mixed: tuple[Any, Path], tmp_path: Path) -> None:
    model, folder = mixed
    packed = xtc_ds.export_packed(model, tmp_path / "packed").tensor_bytes
    # 300 bytes of tables that turn bytes into codes, and the constants of each layer, are there whatever the size.
    assert (folder / "model.bin").stat().st_size <= 1.3 * packed + 4096


def test_layers_of_integers_are_exact(tmp_path: Path) -> None:
    model, x = side_by_side(EXACT_LAYERS, {})
    export_to(model, tmp_path / "o", "openvino", sample={"x": x[:2]})
    engine = compiled(tmp_path / "o")
    found = engine({"x": x.numpy()})
    for name, expected in model(x).items():
        # The scales are multiplied in another order: two roundings of 2**-24.
        assert torch.allclose(torch.from_numpy(found[name]), expected, rtol=1e-6, atol=1e-6), name


def test_other_layers_compute_with_decoded_weights(tmp_path: Path) -> None:
    model, x = side_by_side(DECODED_LAYERS, {"quantization_type": "asymmetric"}, quantization_type="asymmetric")
    export_to(model, tmp_path / "o", "openvino", sample={"x": x[:2]})
    found = compiled(tmp_path / "o")({"x": x.numpy()})
    for name, expected in model(x).items():
        assert torch.allclose(torch.from_numpy(found[name]), expected, atol=1e-4), name


@pytest.mark.parametrize("name", ["binary", "ternary", *(f"int{bits}" for bits in range(2, 9))])
def test_constants_of_few_bits_hold_every_code(name: str) -> None:
    from openvino import opset15 as ops

    from xtc_ds.engines.openvino_constants import codes_of_layer
    from xtc_ds.formats import Grouping
    from xtc_ds.runtime.packed import PackedSpec
    from xtc_ds.runtime.packed_layers import PackedLinear
    from xtc_ds.storage import Coded

    weight_format = get_format(name)
    low, high = weight_format.code_range
    codes = torch.randint(low, high + 1, (7, 37), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    codes = codes.masked_fill(codes == 0, 1) if name == "binary" else codes
    layer = PackedLinear(PackedSpec("linear", Coded(weight_format, Grouping("tensor"), (7, 37))), bias=False)
    layer.weight.data.copy_(weight_format.pack(codes))
    model = ov.Model([ops.result(codes_of_layer(layer))], [ops.parameter([1], np.float32)], "codes")
    (found,) = ov.Core().compile_model(model, "CPU")([np.zeros(1, np.float32)]).values()
    assert np.array_equal(found, codes.numpy())
