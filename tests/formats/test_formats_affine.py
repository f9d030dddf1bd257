"""Codes are multiplied only where a format says that they may be; all others are decoded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import xtc_ds
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.engines import export_to
from xtc_ds.formats import ActivationFormat, Grouping, WeightFormat, format_names, get_format, registry
from xtc_ds.formats.integer import IntegerFormat
from xtc_ds.kernels.backend import Inputs, ProductSpec
from xtc_ds.kernels.backends import LINEAR
from xtc_ds.kernels.choose import choose
from xtc_ds.kernels.native.lookup import stored_form
from xtc_ds.runtime import PackedEmbedding, PackedLayer


class CurvedGrid(IntegerFormat):
    """Looks like int4 in everything but in what its codes stand for, and says nothing about it."""

    affine = WeightFormat.affine

    def __init__(self) -> None:
        super().__init__(4)

    def decode(self, codes_GN: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
        return codes_GN.float() ** 3 / 64 * parts["scale"]


@pytest.fixture
def curved(monkeypatch: pytest.MonkeyPatch) -> CurvedGrid:
    """The format under the name of another, so that configs and files find it."""
    weight_format = CurvedGrid()
    monkeypatch.setitem(registry._FORMATS, "int4", weight_format)
    return weight_format


def test_our_affine_formats_say_so() -> None:
    assert all(get_format(name).affine for name in ("binary", "ternary", "int8", "int3_asymmetric"))
    assert [name for name in format_names() if get_format(name).scaled_codes and not get_format(name).affine] == []


@pytest.mark.parametrize("per", ["row", "tensor"])
@pytest.mark.parametrize("activation", [ActivationFormat(8), None])
def test_a_format_that_says_nothing_is_decoded(per: str, activation: ActivationFormat | None) -> None:
    def chosen(weight_format: WeightFormat, dtype: torch.dtype) -> str:
        spec = ProductSpec(weight_format, Grouping(per), (8, 8), activation)  # type: ignore[arg-type]
        return choose(LINEAR, spec, Inputs(torch.device("cpu"), dtype)).backend.name

    for dtype in (torch.float32, torch.bfloat16):
        assert activation is None or chosen(get_format("int4"), dtype) in ("native", "torch integers")
        assert chosen(CurvedGrid(), dtype) == "decoded"
    curved = ProductSpec(CurvedGrid(), Grouping(per), (8, 8), activation)  # type: ignore[arg-type]
    for backend in LINEAR[:-1]:
        for device in ("cpu", "cuda", "meta"):
            assert backend.refuses(curved, Inputs(torch.device(device), torch.float16)) is not None
    assert stored_form(get_format("int4")) is not None
    assert stored_form(CurvedGrid()) is None


def frozen(granularity: str) -> Any:
    model = tiny_model(layers=1)
    xtc_ds.compress(model, ds_config(block(4, exclude=["classifier"], shared={"granularity": granularity})))
    return xtc_ds.freeze(model)


@pytest.mark.parametrize("granularity", ["row", "tensor"])
def test_packed_layers_decode_it(granularity: str, curved: CurvedGrid) -> None:
    model = frozen(granularity)
    layers = [module for module in model.modules() if isinstance(module, PackedLayer)]
    assert {type(layer).__name__ for layer in layers} == {"PackedLinear", "PackedEmbedding"}
    for layer in layers:
        w_OI = layer.codes().float() ** 3 / 64 * layer.weight_scale.reshape(-1, 1)
        assert torch.equal(layer.dense_weight(), w_OI)
        if isinstance(layer, PackedEmbedding):
            ids = torch.arange(len(w_OI))
            assert torch.equal(layer(ids), w_OI)
            continue
        x = torch.randn(5, w_OI.shape[1])
        x_hat = x if layer.spec.activation is None else layer.spec.activation.encode(x).decode()
        bias = getattr(layer, "bias", None)
        assert torch.allclose(layer(x), torch.nn.functional.linear(x_hat, w_OI, bias), atol=1e-5)


@pytest.mark.parametrize("container", ["onnx", "openvino"])
def test_other_engines_get_it_decoded(container: str, curved: CurvedGrid, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    engine = pytest.importorskip("onnxruntime" if container == "onnx" else "openvino")
    model, inputs = frozen("row"), batch(labels=False)
    export_to(model, tmp_path / "out", container)
    with torch.no_grad():
        expected = model(**inputs).logits.numpy()
    arrays = {name: value.numpy() for name, value in inputs.items()}
    if container == "onnx":
        session = engine.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
        wanted = {entry.name for entry in session.get_inputs()}
        arrays = {name: value for name, value in arrays.items() if name in wanted}
        (found,) = session.run(["logits"], arrays | {n: np.zeros((4, 9), np.int64) for n in wanted - arrays.keys()})
    else:
        file, options = tmp_path / "out" / "model.xml", {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = engine.Core().compile_model(file, "CPU", options)
        wanted = {port.get_any_name() for port in compiled.inputs}
        arrays = {name: value for name, value in arrays.items() if name in wanted}
        found = compiled(arrays | {n: np.zeros((4, 9), np.int64) for n in wanted - arrays.keys()})["logits"]
    assert np.allclose(found, expected, atol=1e-4)
