"""``xtc-ds inspect --explain``: what computes the layers of a packed checkpoint, and why nothing faster does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import xtc_ds
from tests.tiny import block, tiny_model
from xtc_ds.checkpoint.explain import explain_folder
from xtc_ds.cli.main import main
from xtc_ds.errors import ExportError
from xtc_ds.kernels.native import native_library
from xtc_ds.runtime import PackedEmbedding, PackedLinear

if native_library() is None:
    pytest.skip("no C compiler here", allow_module_level=True)


def packed(folder: Path, **options: Any) -> Path:
    model = tiny_model(layers=2, hidden_size=64).eval()
    xtc_ds.compress(model, xtc_ds.parse_block(block(exclude=["^classifier$"], **options)))
    xtc_ds.export_packed(model, folder)
    return folder


def test_every_packed_layer_is_in_one_row(tmp_path: Path) -> None:
    folder = packed(tmp_path / "packed")
    uses = explain_folder(folder, "cpu")
    model = xtc_ds.load(folder)
    names = {name for name, module in model.named_modules() if isinstance(module, PackedLinear | PackedEmbedding)}
    assert sorted(name for use in uses for name in use.layers) == sorted(names)
    assert {(use.kind, use.backend) for use in uses} == {("linear", "native"), ("embedding", "native")}
    library = native_library()
    assert library is not None
    assert {use.instructions for use in uses} == {library.path_name}


def test_reasons_are_told(tmp_path: Path) -> None:
    folder = packed(tmp_path / "packed", bits=4, shared={"quantization_type": "asymmetric"})
    (linear,) = [use for use in explain_folder(folder, "cpu") if use.kind == "linear"]
    assert linear.backend == "decoded"
    assert [name for name, _ in linear.passed_over] == ["Triton", "native", "torch integers"]
    assert "int4_asymmetric" in dict(linear.passed_over)["native"]
    (linear,) = [use for use in explain_folder(folder, "cuda") if use.kind == "linear"]
    assert dict(linear.passed_over)["native"] == "it runs on CPUs, not on cuda"


def test_the_fused_runtime_is_explained(tmp_path: Path) -> None:
    uses = explain_folder(packed(tmp_path / "packed", bits=8), "cpu", runtime="fused")
    (encoder,) = [use for use in uses if use.kind == "encoder layer"]
    assert encoder.layers == ("bert.encoder.layer.0", "bert.encoder.layer.1")
    library = native_library()
    assert library is not None
    assert encoder.backend == ("native" if library.has_encoder else "module by module")
    with pytest.raises(ExportError, match="runtime: found 'fast'"):
        explain_folder(tmp_path / "packed", "cpu", runtime="fast")
    with pytest.raises(ExportError, match="device: found 'nowhere'"):
        explain_folder(tmp_path / "packed", "nowhere")


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = packed(tmp_path / "packed", bits=4, activation=None)
    assert main(["inspect", str(folder), "--explain", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "its input is not quantized" in " ".join(printed.replace("│", " ").split())
    assert main(["inspect", str(folder), "--explain", "--json", "--device", "cpu"]) == 0
    kernels = json.loads(capsys.readouterr().out)["kernels"]
    assert {entry["backend"] for entry in kernels} == {"native", "decoded"}
    assert main(["inspect", str(folder), "--json"]) == 0
    assert "kernels" not in json.loads(capsys.readouterr().out)
