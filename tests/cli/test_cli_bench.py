"""``xtc-ds bench``: engines take turns, who is missing is named, mistakes are errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import xtc_ds
from tests.tiny import block, tiny_model
from xtc_ds.bench import engines
from xtc_ds.bench.competition import Result
from xtc_ds.bench.report import best_exact, rows
from xtc_ds.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny_model("bert", layers=1)
    xtc_ds.compress(model, xtc_ds.parse_block(block()))
    target = tmp_path_factory.mktemp("bench") / "packed"
    xtc_ds.export_packed(model, target)
    return target


@pytest.mark.slow
def test_engines_take_turns_and_missing_ones_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("onnx-fp32", "onnx-int8"):
        lacking = engines.Engine(engines.ENGINES[name].label, engines.ENGINES[name].make, ("no_such_package",))
        monkeypatch.setitem(engines.ENGINES, name, lacking)
    options = ["--batch", "1", "2", "--tokens", "5", "--threads", "1", "--rounds", "2", "--seconds", "0"]
    assert main(["bench", str(folder), "--against", "fp32,onnx", *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(entry["engine"], entry["batch"]) for entry in found["results"]] == [
        ("packed", 1), ("torch-fp32", 1), ("packed", 2), ("torch-fp32", 2)
    ]  # fmt: skip
    assert all(entry["ms"] > 0 and entry["memory_bytes"] > 0 for entry in found["results"])
    assert found["results"][0]["file_bytes"] == (folder / "model.safetensors").stat().st_size
    assert found["not_installed"] == {"onnx-fp32": ["no_such_package"], "onnx-int8": ["no_such_package"]}


def test_mistakes_are_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        ([str(folder), "--against", "fp32,tensorflow", "--tokens", "9"], "unknown: tensorflow; there are: fused"),
        ([str(folder), "--tokens", "65"], "found 65, the model takes at most 64"),
        ([str(tmp_path)], "cannot be read"),
    ):
        assert main(["bench", *arguments]) == 1
        assert message in capsys.readouterr().err


def test_ratios_are_of_the_same_round_and_against_the_best() -> None:
    packed = Result("packed", 1, 8, 10**6, [1.0, 2.0, 4.0], 2 * 10**6)
    slow = Result("torch-fp32", 1, 8, 10**6, [8.0, 16.0, 32.0])
    fast = Result("openvino-fp32", 1, 8, 10**6, [3.0, 6.0, 12.0])
    assert best_exact([packed, slow, fast]) is fast
    assert rows([packed, slow, fast])[0] == ("xtc_ds, packed", "2.0", "1.5 to 3.0", "8.00", "3.00", "2", "1.0")
