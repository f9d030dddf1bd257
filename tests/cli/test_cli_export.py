"""``xtc-ds export`` and ``xtc-ds inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import xtc_ds
from tests.checkpoint.pruned_models import pruning
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.cli.main import main
from xtc_ds.layers import set_step


@pytest.fixture(scope="module")
def trained(single_process_group: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A short run in this process: half of the layers, static ranges, a learned and a fixed mask, distillation."""
    compression = block(
        bits=4,
        reduction={"keep_number_layer": 1},
        kd={"teacher": "self"},
        activation_shared={"range_calibration": "static"},
    )
    compression |= pruning("sparse", 0.25, "intermediate")
    compression |= pruning("row", 0.5, "layer.\\d+.output.dense", method="topk")
    config = ds_config(compression, optimizer={"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}})
    model = tiny_model(layers=2)
    engine, *_ = xtc_ds.initialize(model=model, config=config, model_parameters=list(model.parameters()))
    folder = tmp_path_factory.mktemp("run")
    for step in range(2):
        loss = engine(**batch(seed=step)).loss
        engine.backward(loss)
        engine.step()
        engine.save_checkpoint(str(folder / "checkpoints"), tag=f"step{step}")
    xtc_ds.export_packed(engine, folder / "expected")
    return {"folder": folder, "expected": folder / "expected"}


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("where", ["", "checkpoints", "checkpoints/step1"])
def test_a_checkpoint_is_exported_as_the_run_would(where: str, trained: dict[str, Any], tmp_path: Path) -> None:
    assert main(["export", str(trained["folder"] / where), str(tmp_path / "out")]) == 0
    assert content(tmp_path / "out") == content(trained["expected"])


def test_another_tag_is_another_model(
    trained: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(trained["folder"])
    assert main(["export", folder, str(tmp_path / "out"), "--tag", "step0"]) == 0
    assert content(tmp_path / "out")["model.safetensors"] != content(trained["expected"])["model.safetensors"]
    assert main(["export", folder, str(tmp_path / "no"), "--tag", "step7"]) == 1
    assert "tag 'step7' is not there; tags: step0, step1" in capsys.readouterr().err


def test_a_packed_folder_is_written_in_shards_and_as_dense(trained: dict[str, Any], tmp_path: Path) -> None:
    packed = str(trained["expected"])
    assert main(["export", packed, str(tmp_path / "shards"), "--max-shard-size", "5KB"]) == 0
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 1
    assert main(["export", packed, str(tmp_path / "dense"), "--format", "dense"]) == 0
    assert (tmp_path / "dense" / "config.json").is_file()
    assert main(["export", str(tmp_path / "shards"), str(tmp_path / "again")]) == 0
    assert content(tmp_path / "again") == content(trained["expected"])


def test_a_checkpoint_without_its_config_needs_a_model(
    trained: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = torch.load(trained["folder"] / "checkpoints" / "step1" / "mp_rank_00_model_states.pt", weights_only=True)
    about = states["xtc_ds"].pop("model")["about"]
    (tmp_path / "old" / "step1").mkdir(parents=True)
    torch.save(states, tmp_path / "old" / "step1" / "mp_rank_00_model_states.pt")
    assert main(["export", str(tmp_path / "old"), str(tmp_path / "out")]) == 1
    assert "does not hold the config of a Hugging Face model; give the folder" in capsys.readouterr().err
    xtc_ds.load(trained["expected"]).config.save_pretrained(tmp_path / "student")  # type: ignore[union-attr, operator]
    for name, layers in (("teacher", 2), ("shallow", 1)):
        tiny_model(layers=layers).config.save_pretrained(tmp_path / name)
        config = json.loads((tmp_path / name / "config.json").read_text())
        config["architectures"] = ["BertForSequenceClassification"]
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        out = tmp_path / f"out-{name}"
        assert main(["export", str(tmp_path / "old"), str(out), "--model", str(tmp_path / name)]) == 0
        found, expected = (xtc_ds.load(folder) for folder in (out, trained["expected"]))
        inputs = batch(labels=False)
        assert torch.equal(found(**inputs).logits, expected(**inputs).logits)
    assert about["original_bytes"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "OUT"], "nowhere: no such folder"),
        (["EMPTY", "OUT"], "is neither a DeepSpeed checkpoint nor a packed one"),
        (["PACKED", "EMPTY/.."], "holds files; name another folder, or add --overwrite"),
        (["PACKED", "OUT", "--model", "x"], "is packed and holds its config; leave it out"),
        (["PACKED", "OUT", "--format", "dense", "--max-shard-size", "1GB"], "only packed files are split, not dense"),
        (["FOREIGN", "OUT"], "was not saved by an engine of xtc_ds"),
        (["BROKEN", "OUT"], "cannot be read"),
        (["PICKLE", "OUT"], "holds more than tensors and plain data, which is not read"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_exported_is_one_clear_line(
    arguments: list[str], message: str, trained: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("EMPTY", "FOREIGN/t", "BROKEN/t", "PICKLE/t"):
        (tmp_path / name).mkdir(parents=True)
    file = "t/mp_rank_00_model_states.pt"
    torch.save({"module": {}, "buffer_names": []}, tmp_path / "FOREIGN" / file)
    (tmp_path / "BROKEN" / file).write_bytes(b"PK\x03\x04 no archive")
    torch.save({"module": {}, "client": Path("x")}, tmp_path / "PICKLE" / file)
    given = [str(trained["expected"]) if word == "PACKED" else word for word in arguments]
    given[:2] = [str(tmp_path / word) for word in given[:2]]  # of an absolute path nothing changes
    assert main(["export", *given]) == 1
    assert message in capsys.readouterr().err


def test_inspect_tells_what_is_still_float(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_model(layers=1)
    xtc_ds.compress(model, ds_config(block(bits=4) | pruning("sparse", 0.25, "intermediate")))
    set_step(model, 1)
    frozen = xtc_ds.freeze(model)
    report = xtc_ds.export_packed(frozen, tmp_path / "one")
    xtc_ds.export_packed(frozen, tmp_path / "many", max_shard_size="5KB")
    assert main(["inspect", "--json", str(tmp_path / "one")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file_bytes"] == report.file_bytes
    assert sum(entry["bytes"] for entry in found["tensors"]) == report.tensor_bytes
    dense = 4 * sum(parameter.numel() for parameter in tiny_model(layers=1).parameters())
    assert found["dense_bytes"] == dense
    assert found["main_format"] == "int4"
    tensors = {entry["name"]: entry for entry in found["tensors"]}
    sparse = tensors["bert.encoder.layer.0.intermediate.dense.weight"]
    assert (sparse["kept"], sparse["bits_per_weight"]) == ("25 %", 2.0)
    assert tensors["bert.pooler.dense.weight"]["bits_per_weight"] == 4
    left = {entry["name"]: entry for entry in found["still_float"]}
    assert left["classifier.weight"]["bytes"] == 2 * 2 * 32
    table = left["bert.embeddings.word_embeddings.weight"]
    assert table["saved_int8"] == 100 * 32 - 4 * 100
    assert table["saved_main"] == 100 * 32 * 3 // 2 - 4 * 100
    packed = sum(entry["bytes"] for entry in found["tensors"] if entry["format"] == "int4")
    scales = sum(entry["bytes"] for entry in found["tensors"] if entry["bits_per_weight"] is None)
    assert found["least_bytes"] == report.tensor_bytes - scales
    assert packed > 0
    for place in (tmp_path / "many", next((tmp_path / "many").glob("model-*.safetensors"))):
        assert main(["inspect", "--json", str(place)]) == 0
        many = json.loads(capsys.readouterr().out)
        assert len(many["files"]) > 1
        assert sum(entry["bytes"] for entry in many["tensors"]) == report.tensor_bytes
    assert main(["inspect", str(tmp_path / "one")]) == 0
    out = capsys.readouterr().out
    assert "least possible (codes alone, and the floats)" in out
    assert "still float" in out
    assert "int4, 25 % kept" in out
    assert main(["inspect", str(tmp_path)]) == 1
