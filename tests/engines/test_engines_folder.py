"""A folder appears whole or not at all, and a user's files stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import xtc_ds.engines.dense as dense
from tests.engines.engine_models import block, frozen
from xtc_ds.engines import CONTAINERS, export_to
from xtc_ds.errors import ExportError


@pytest.fixture(scope="module")
def model() -> Any:
    return frozen("bert", block({"all": ({"target_bits": 1}, ["self\\.query"])}, None), layers=1)


def test_files_of_a_user_are_replaced_on_request_only(model: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(ExportError, match="holds files; name another folder, or overwrite"):
        export_to(model, tmp_path / "mine", "dense")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"
    report = export_to(model, tmp_path / "mine", "dense", overwrite=True)
    assert sorted(report.files) == ["config.json", "model.safetensors"]
    assert report.file_bytes == sum(file.stat().st_size for file in (tmp_path / "mine").iterdir())
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine"]


def test_a_failure_leaves_everything_as_it_was(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_to(model, tmp_path / "old", "dense")
    before = (tmp_path / "old" / "model.safetensors").read_bytes()

    def fail(frozen: Any, folder: Path) -> None:
        (folder / "half").write_text("half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr(dense, "write_dense", fail)
    with pytest.raises(ExportError, match="no space left"):
        export_to(model, tmp_path / "old", "dense", overwrite=True)
    assert (tmp_path / "old" / "model.safetensors").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["old"]


def test_wrong_calls_say_what_is_right(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExportError, match=f"found 'tflite'; allowed: {', '.join(CONTAINERS)}"):
        export_to(model, tmp_path / "o", "tflite")
    with pytest.raises(ExportError, match="dense: options are float_dtype; found colour"):
        export_to(model, tmp_path / "o", "dense", colour="red")
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="is a file"):
        export_to(model, tmp_path / "file", "dense")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExportError, match="current folder"):
        export_to(model, tmp_path, "dense", overwrite=True)


def test_a_missing_package_is_named(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"gguf: needs the package gguf; pip install 'xtc-ds\[gguf\]'"):
        export_to(model, tmp_path / "o", "gguf")


def test_the_model_and_its_config_are_untouched(model: Any, tmp_path: Path) -> None:
    before = model.config.to_dict()
    export_to(model, tmp_path / "o", "dense")
    assert model.config.to_dict() == before and before["quantization_config"]["quant_method"] == "xtc"
