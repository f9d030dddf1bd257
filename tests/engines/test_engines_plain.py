"""Checkpoints that transformers loads by itself, in a process that never imports xtc_ds."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.engines.engine_models import INPUTS, block, frozen, logits
from xtc_ds.engines import export_to
from xtc_ds.errors import ExportError

LINEAR = ["attention", "intermediate", "output\\.dense", "pooler"]

STOCK = """
import json, sys, torch
from transformers import AutoModelForSequenceClassification
inputs, result = torch.load(sys.argv[1]), {}
for folder in sys.argv[2:]:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        result[folder] = model(**inputs).logits.tolist()
assert not [name for name in sys.modules if name.startswith("xtc_ds")]
print("RESULT", json.dumps(result))
"""


def missing(*packages: str) -> str:
    return ", ".join(name for name in packages if importlib.util.find_spec(name) is None)


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, torch.Tensor]]:
    """Name to the frozen model and the logits of its export in plain transformers."""
    root = tmp_path_factory.mktemp("stock")
    one_scale = {"granularity": "tensor"}
    models = {
        "dense": (frozen("bert", block({"all": ({"target_bits": 1}, [*LINEAR, "word"])}, None)), "dense"),
        "dense_gpt2": (frozen("gpt2", block({"all": ({"target_bits": 4}, ["attn|mlp|wte"])}, None)), "dense"),
    }
    if not missing("accelerate"):
        ternary = block({"all": ({"target_bits": 2}, [*LINEAR, "word"])}, {}, **one_scale)
        models["bitnet"] = (frozen("bert", ternary), "bitnet")
        binary = block({"all": ({"target_bits": 1}, LINEAR)}, {}, **one_scale)
        models["bitnet_binary"] = (frozen("bert", binary), "bitnet")
    if not missing("compressed_tensors"):
        mixed = {
            "two": ({"target_bits": 1}, ["query", "word"]),
            "ternary": ({"target_bits": 2, "granularity": "tensor"}, ["key"]),
            "grouped": ({"target_bits": 4, "granularity": "tensor", "quantize_groups": 64}, ["value"]),
            "three": ({"target_bits": 3}, ["intermediate"]),
            "eight": ({"target_bits": 8}, ["output\\.dense"]),
        }
        models["compressed"] = (frozen("bert", block(mixed, None)), "compressed-tensors")
    for name, (model, container) in models.items():
        export_to(model, root / name, container)
    torch.save(INPUTS, root / "inputs.pt")
    command = [sys.executable, "-c", STOCK, str(root / "inputs.pt"), *(str(root / name) for name in models)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.split("RESULT")[1])
    return {name: (model, torch.tensor(found[str(root / name)])) for name, (model, _) in models.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "dense_gpt2", "compressed"])
def test_stock_transformers_computes_the_same(name: str, stock: Any) -> None:
    if name == "compressed" and missing("compressed_tensors"):
        pytest.skip("needs compressed-tensors")
    model, found = stock[name]
    assert torch.allclose(found, logits(model), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bitnet", "bitnet_binary"])
def test_stock_transformers_computes_ternary_codes(name: str, stock: Any) -> None:
    if missing("accelerate"):
        pytest.skip("transformers loads bitnet checkpoints with accelerate")
    model, found = stock[name]
    # The inputs have another scale there: 1 / 127 of the largest value, here 1 / 128.
    assert torch.allclose(found, logits(model), atol=0.015)


def test_bitnet_and_compressed_tensors_hold_the_codes(tmp_path: Path) -> None:
    model = frozen("bert", block({"all": ({"target_bits": 2}, LINEAR)}, {}, granularity="tensor"))
    layer, name = model.bert.pooler.dense, "bert.pooler.dense"
    export_to(model, tmp_path / "bitnet", "bitnet")
    stored = load_file(tmp_path / "bitnet" / "model.safetensors")
    packed = stored[f"{name}.weight"]
    codes = torch.cat([(packed >> 2 * place) & 3 for place in range(4)]).to(torch.int8) - 1
    assert packed.shape == (8, 32)
    assert torch.equal(codes, layer.codes())
    assert torch.allclose(stored[f"{name}.weight_scale"] * layer.weight_scale, torch.ones(1))
    export_to(model, tmp_path / "compressed", "compressed-tensors")
    stored = load_file(tmp_path / "compressed" / "model.safetensors")
    words = stored[f"{name}.weight_packed"]
    codes = torch.stack([(words >> 2 * place) & 3 for place in range(16)], dim=-1).reshape(32, 32).to(torch.int8) - 2
    assert torch.equal(codes, layer.codes())
    assert stored[f"{name}.weight_shape"].tolist() == [32, 32]


@pytest.mark.parametrize(
    ("container", "options", "message"),
    [
        (
            "bitnet",
            ({"target_bits": 4}, {}, {"granularity": "tensor"}),
            "its weight is int4, .*container onnx",
        ),
        ("bitnet", ({"target_bits": 2}, {}, {}), "output.dense: it has 32 scales, not one"),
        ("bitnet", ({"target_bits": 2}, None, {"granularity": "tensor"}), "its input is not quantized to 8 bits"),
        ("compressed-tensors", ({"target_bits": 4}, {}, {"quantization_type": "asymmetric"}), "int4_asymmetric"),
    ],
    ids=str,
)
def test_what_a_container_cannot_hold_is_refused(container: str, options: Any, message: str, tmp_path: Path) -> None:
    params, activation, shared = options
    model = frozen("bert", block({"all": (params, LINEAR)}, activation, **shared), layers=1)
    with pytest.raises(ExportError, match=message):
        export_to(model, tmp_path / "o", container)
    assert not list(tmp_path.iterdir())


def test_a_narrow_type_is_refused_where_it_is_not_exact(tmp_path: Path) -> None:
    compression = block({"all": ({"target_bits": 1}, ["self\\.query"])}, None)
    export_to(frozen("bert", compression, layers=1), tmp_path / "half", "dense", float_dtype="float16")
    assert load_file(tmp_path / "half" / "model.safetensors")["bert.pooler.dense.weight"].dtype == torch.float16
    compression["export"]["float_dtype"] = "float32"
    with pytest.raises(ExportError, match="float16 does not hold its weights exactly; use float_dtype float32"):
        export_to(frozen("bert", compression, layers=1), tmp_path / "o", "dense", float_dtype="float16")


def test_inputs_that_are_left_as_they_are_are_told(tmp_path: Path) -> None:
    model = frozen("bert", block({"all": ({"target_bits": 1}, ["self\\.query"])}, {}), layers=1)
    assert export_to(model, tmp_path / "o", "dense").differs == ("the inputs of 7 layers are not quantized",)
