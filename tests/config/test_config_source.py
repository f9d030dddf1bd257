"""Where a config may come from, and what is said when it cannot be read."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from xtc_ds.config import check_config, load_config, read_config, split_config
from xtc_ds.errors import ConfigError

BLOCK = {"kd": {"enabled": True}}
CONFIG = {"train_batch_size": 8, "compression_training": BLOCK}


def test_dict_is_deep_copied() -> None:
    mine = json.loads(json.dumps(CONFIG))
    rest, _ = load_config(mine)
    rest["train_batch_size"] = 1
    read_config(mine)["compression_training"]["kd"]["enabled"] = False
    assert mine == CONFIG


def test_split_takes_the_block_out_of_a_copy() -> None:
    mine = json.loads(json.dumps(CONFIG))
    rest, block = split_config(mine)
    assert (rest, block) == ({"train_batch_size": 8}, BLOCK)
    assert mine == CONFIG
    assert split_config({"train_batch_size": 8}) == ({"train_batch_size": 8}, None)


def test_path_string_and_base64_give_the_same(tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    file.write_text("\ufeff" + json.dumps(CONFIG), encoding="utf-8")
    encoded = base64.urlsafe_b64encode(json.dumps(CONFIG).encode()).decode()
    assert read_config(file) == read_config(str(file)) == read_config(encoded) == CONFIG


def test_hjson_with_comments(tmp_path: Path) -> None:
    file = tmp_path / "ds.hjson"
    file.write_text("{\n  # a comment\n  train_batch_size: 8\n  compression_training: {kd: {enabled: true}}\n}\n")
    assert read_config(file) == CONFIG
    assert type(read_config(file)["compression_training"]) is dict


def test_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "xtc_1bit.json").write_text("{}")
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "xtc_1bits.json")
    near = tmp_path / "xtc_1bit.json"
    assert str(caught.value) == f"{tmp_path / 'xtc_1bits.json'}: no such config file; did you mean '{near}'?"


def test_folder_and_binary_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        read_config(tmp_path)
    (tmp_path / "model.json").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 0\)"):
        read_config(tmp_path / "model.json")


def test_unreadable_text_names_line_and_column(tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text('{\n  "a": [1,\n  }\n')
    with pytest.raises(ConfigError, match="line 3, column 3"):
        read_config(tmp_path / "ds.json")


@pytest.mark.parametrize("depth", [5_000, 100_000])
def test_endless_nesting_is_refused(tmp_path: Path, depth: int) -> None:
    (tmp_path / "ds.json").write_text("[" * depth)
    with pytest.raises(ConfigError):
        read_config(tmp_path / "ds.json")


@pytest.mark.parametrize("source", [None, 3, ["a.json"], b"a.json", "", "a\0b", "x" * 5000])
def test_other_sources_are_refused(source: object) -> None:
    with pytest.raises(ConfigError):
        read_config(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["compression-training", "CompressionTraining", "compression_trainning", "compression"])
def test_nearly_the_block_is_not_ignored(key: str) -> None:
    errors, _ = check_config({key: BLOCK, **CONFIG})
    assert [str(error) for error in errors] == [
        f"{key}: unknown key, it would be ignored; did you mean 'compression_training'?"
    ]


@pytest.mark.parametrize(
    "key",
    [
        "curriculum_learning",
        "communication_data_type",
        "progressive_layer_drop",
        "data_efficiency",
        "compile",
        "comms_logger",
    ],
)
def test_keys_of_deepspeed_are_left_alone(key: str) -> None:
    assert check_config({key: {}, **CONFIG}) == ([], [])
