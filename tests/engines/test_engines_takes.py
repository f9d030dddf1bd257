"""What each container stores as codes, decodes, and refuses: one table each."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.engines.engine_models import block, frozen
from xtc_ds.engines import export_to
from xtc_ds.engines.takes import Takes
from xtc_ds.errors import ExportError
from xtc_ds.formats import ActivationFormat, Grouping, WeightFormat, get_format, registry
from xtc_ds.formats.integer import IntegerFormat
from xtc_ds.runtime import PackedLayer
from xtc_ds.runtime.packed import PackedSpec
from xtc_ds.storage import Coded, Dense

FILES = {
    "onnx": "onnx_file", "openvino": "openvino_file", "gguf": "gguf_file", "compressed-tensors": "compressed_tensors",
    "bitnet": "bitnet",
}  # fmt: skip


class Curved(IntegerFormat):
    """Looks like int4 in everything but in what its codes stand for, and says nothing about it."""

    affine = WeightFormat.affine

    def __init__(self) -> None:
        super().__init__(4)

    def decode(self, codes_GN: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
        return codes_GN.float() ** 3 / 64 * parts["scale"]


def table(container: str) -> Takes:
    try:
        takes: Takes = importlib.import_module(f"xtc_ds.engines.{FILES[container]}").TAKES
    except ModuleNotFoundError as error:
        pytest.skip(f"needs {error.name}")
    assert takes.container == container
    return takes


def answer(container: str, weight_format: WeightFormat, kind: str = "linear") -> str:
    spec = PackedSpec(kind, Coded(weight_format, Grouping(), (8, 8)), ActivationFormat(8))
    try:
        return "codes" if table(container).as_codes("layer", spec) else "floats"
    except ExportError as error:
        assert str(error).startswith(f"{container}: layer: its ")
        assert str(error).endswith("; use the container onnx, openvino or dense")
        return "refused"


@pytest.mark.parametrize(
    ("container", "binary", "int4", "shifted", "curved", "embedding"),
    [
        ("onnx", "codes", "codes", "codes", "floats", "codes"),
        ("openvino", "codes", "codes", "codes", "floats", "codes"),
        ("gguf", "codes", "codes", "refused", "floats", "codes"),
        ("compressed-tensors", "codes", "codes", "refused", "floats", "floats"),
        ("bitnet", "codes", "refused", "refused", "refused", "floats"),
    ],
)
def test_the_tables(container: str, binary: str, int4: str, shifted: str, curved: str, embedding: str) -> None:
    assert answer(container, get_format("binary")) == binary
    assert answer(container, get_format("int4")) == int4
    assert answer(container, get_format("int4_asymmetric")) == shifted
    assert answer(container, Curved()) == curved
    assert answer(container, get_format("binary"), "embedding") == embedding
    floats = PackedSpec("linear", Dense((8, 8)), ActivationFormat(8))
    if container == "bitnet":
        with pytest.raises(ExportError, match="its weight is float, not binary or ternary"):
            table(container).as_codes("layer", floats)
    else:
        assert not table(container).as_codes("layer", floats)


def curved_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """int8 everywhere but in the queries, whose format has no affine codes."""
    monkeypatch.setitem(registry._FORMATS, "int4", Curved())
    groups = {"curved": ({"target_bits": 4}, ["query"]), "others": ({"target_bits": 8}, ["key", "value"])}
    return frozen("bert", block(groups, None), layers=1)


def test_compressed_tensors_gets_floats_of_a_format_without_affine_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = curved_model(monkeypatch)
    export_to(model, tmp_path / "out", "compressed-tensors")
    stored = load_file(tmp_path / "out" / "model.safetensors")
    name = "bert.encoder.layer.0.attention.self.query"
    layer = model.get_submodule(name)
    assert isinstance(layer, PackedLayer)
    assert torch.equal(stored[f"{name}.weight"].float(), layer.dense_weight())
    assert f"{name}.weight_packed" not in stored
    assert "bert.encoder.layer.0.attention.self.key.weight_packed" in stored


def test_gguf_gets_floats_of_a_format_without_affine_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = pytest.importorskip("gguf")
    model = curved_model(monkeypatch)
    export_to(model, tmp_path / "out", "gguf")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "out" / "model.gguf").tensors}
    found = tensors["blk.0.attn_q.weight"]
    assert found.tensor_type.name in ("F16", "F32")
    layer = model.get_submodule("bert.encoder.layer.0.attention.self.query")
    assert isinstance(layer, PackedLayer)
    assert torch.equal(torch.from_numpy(found.data.copy()).float().reshape(layer.spec.shape), layer.dense_weight())
    assert tensors["blk.0.attn_k.weight"].tensor_type.name == "Q8_0"
