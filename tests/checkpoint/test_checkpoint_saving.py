"""Saving what was loaded gives the same bytes; shards; the model card; the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import xtc_ds
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.checkpoint.safetensors_file import read_header, write_file
from xtc_ds.errors import ExportError

INPUTS = batch(labels=False)


def frozen_model(kind: str = "bert", **options: Any) -> Any:
    model = tiny_model(kind, layers=2).eval()
    xtc_ds.compress(model, ds_config(block(**options)))
    return xtc_ds.freeze(model)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(**INPUTS).logits
    return result


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("size", ["5GB", "6KB"])
def test_a_loaded_model_is_saved_with_the_same_bytes(kind: str, size: str, tmp_path: Path) -> None:
    frozen = frozen_model(kind)
    xtc_ds.export_packed(frozen, tmp_path / "first", max_shard_size=size)
    xtc_ds.load(tmp_path / "first").save_pretrained(tmp_path / "again", max_shard_size=size)  # type: ignore[operator]
    type(frozen).from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "third", max_shard_size=size)
    frozen.save_pretrained(tmp_path / "frozen", max_shard_size=size)
    xtc_ds.export_packed(xtc_ds.load(tmp_path / "first"), tmp_path / "packed", max_shard_size=size)
    expected = content(tmp_path / "first")
    assert ("model.safetensors" in expected) == (size == "5GB")
    for name in ("again", "third", "frozen", "packed"):
        assert content(tmp_path / name) == expected


def test_shards_load_both_ways_and_replace_each_other(tmp_path: Path) -> None:
    frozen = frozen_model()
    report = xtc_ds.export_packed(frozen, tmp_path / "out", max_shard_size="5KB")
    files = [file for file in content(tmp_path / "out") if file.endswith(".safetensors")]
    assert len(files) > 2
    assert report.file_bytes == sum((tmp_path / "out" / name).stat().st_size for name in files)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == report.tensor_bytes
    expected = logits(frozen)
    for loaded in (
        xtc_ds.load(tmp_path / "out"),
        type(frozen).from_pretrained(tmp_path / "out"),
        xtc_ds.load_into(tiny_model(layers=2), tmp_path / "out"),
    ):
        assert torch.equal(logits(loaded), expected)
    loaded.save_pretrained(tmp_path / "out")
    assert sorted(content(tmp_path / "out")) == ["README.md", "config.json", "model.safetensors"]
    assert torch.equal(logits(xtc_ds.load(tmp_path / "out")), expected)
    assert torch.equal(logits(loaded), expected)


def test_a_size_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="max_shard_size: found 'large'; write it as '5GB'"):
        xtc_ds.export_packed(frozen_model(), tmp_path / "out", max_shard_size="large")
    assert list(tmp_path.iterdir()) == []


def test_our_writer_gives_the_bytes_of_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save

    floats = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
    others = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
    tensors = {str(dtype): torch.arange(7).to(dtype) for dtype in [*floats, *others]}
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "a": torch.ones(2, 3), "b": torch.ones(1)}
    write_file(tmp_path / "x", tensors, {})
    metadata = dict(read_header(tmp_path / "x").metadata)
    assert (tmp_path / "x").read_bytes() == save(tensors, metadata)


def test_the_card_tells_bits_size_and_scores(tmp_path: Path) -> None:
    model = tiny_model(layers=2)
    plan = xtc_ds.compress(model, ds_config(block(bits=2, export="bfloat16")))
    report = xtc_ds.export_packed(model, tmp_path / "out", scores={"accuracy": 0.875})
    card = (tmp_path / "out" / "README.md").read_text()
    assert (
        f"{report.file_bytes / 1e6:.2f} MB; before compression, in 32 bits, {plan.sizes.original / 1e6:.2f} MB" in card
    )
    assert "| ternary | 1.58 | 13 |" in card
    assert "| bfloat16 | 16 |" in card
    assert "| accuracy | 0.875 |" in card
    xtc_ds.load(tmp_path / "out").save_pretrained(tmp_path / "again")  # type: ignore[operator]
    assert (tmp_path / "again" / "README.md").read_text() == card
    with pytest.raises(ExportError, match=r"scores: f1 is \[1\]; a number or a text"):
        xtc_ds.export_packed(model, tmp_path / "out", scores={"f1": [1]})  # type: ignore[dict-item]


def test_a_card_of_the_user_is_never_replaced(tmp_path: Path) -> None:
    frozen = frozen_model()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("mine")
    xtc_ds.export_packed(frozen, tmp_path / "out")
    xtc_ds.export_packed(frozen, tmp_path / "out")
    frozen.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text() == "mine"


def test_what_the_user_tells_of_the_origin_is_on_the_card(tmp_path: Path) -> None:
    model = tiny_model(layers=1)
    model.config._name_or_path = str(tmp_path)  # a path on this machine is nobody else's business
    xtc_ds.compress(model, ds_config(block()))
    told = {"teacher": "my own", "license": "mit", "dataset": "reviews"}
    xtc_ds.export_packed(model, tmp_path / "out", about=told, scores={"note": "good", "f1": 0.5})
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Taught by my own, scored on reviews." in card
    assert "license: mit" in card
    assert "base_model" not in card and str(tmp_path) not in card
    frozen = xtc_ds.load(tmp_path / "out")
    frozen.save_pretrained(tmp_path / "again")  # type: ignore[operator]
    assert (tmp_path / "again" / "README.md").read_text() == card
    with pytest.raises(ExportError, match="about: found 'metric'; allowed: base_model, teacher, dataset"):
        xtc_ds.export_packed(model, tmp_path / "out", about={"metric": "f1"})
    with pytest.raises(ExportError, match="about: license is ''; a text is needed"):
        xtc_ds.export_packed(model, tmp_path / "out", about={"license": ""})


def test_files_other_than_safetensors_are_refused(tmp_path: Path) -> None:
    for wrong in ({"safe_serialization": False}, {"variant": "fp16"}):
        with pytest.raises(ExportError, match="packed checkpoints are safetensors files without a variant"):
            frozen_model().save_pretrained(tmp_path / "out", **wrong)
