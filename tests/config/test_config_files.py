"""Whole config files: the good ones parse, the bad ones give exactly the lines of their .txt twin."""

from __future__ import annotations

from pathlib import Path

import pytest

from xtc_ds.config import load_config
from xtc_ds.errors import ConfigError

HERE = Path(__file__).parent
GOOD = sorted((HERE / "good").glob("*.json"))
BAD = sorted((HERE / "bad").glob("*.json"))


def test_folders_are_filled_and_paired() -> None:
    assert len(GOOD) >= 10
    assert len(BAD) >= 30
    assert [path.stem for path in BAD] == sorted(path.stem for path in (HERE / "bad").glob("*.txt"))


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_file_is_accepted(path: Path) -> None:
    rest, config = load_config(path)
    assert "compression_training" not in rest
    assert config.to_dict() == config.raw


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_file_gives_exactly_its_messages(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    found = str(caught.value).replace(str(path), path.name)
    assert found.splitlines() == path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    assert len(found.splitlines()) == len(caught.value.problems)


def test_old_xtc_config_says_what_it_said() -> None:
    _, config = load_config(HERE / "good" / "old_xtc_layer_reduction_w1a8.json")
    assert config.layer_reduction is not None
    assert config.layer_reduction.teacher_layer == (2, 4, 6, 8, 10)
    assert config.layer_reduction.other_module_name == ("bert.pooler", "bert.embeddings", "classifier")
    (weights,) = config.weight_quantization
    assert (weights.name, weights.start_bits, weights.target_bits, weights.quantize_groups) == ("wq1", 1.0, 1.0, 1)
    assert weights.path == "compression_training.weight_quantization.different_groups.wq1"
    assert weights.modules == ("attention.self", "intermediate", "word_embeddings", "output.dense")
    (activations,) = config.activation_quantization
    assert (activations.bits, activations.schedule_offset, activations.range_calibration) == (8, 0, "dynamic")
    assert config.kd is None
    assert config.export.float_dtype == "float32"


def test_group_wins_over_shared_parameters() -> None:
    _, config = load_config(HERE / "good" / "group_overrides.json")
    first, second = config.weight_quantization
    assert (first.quantization_type, first.quantize_groups, first.schedule_offset) == ("symmetric", 1, 0)
    assert (first.granularity, first.quantization_period, first.modules) == ("row", 50, ("*",))
    assert (second.quantization_type, second.quantize_groups, second.schedule_offset) == ("asymmetric", 4, 10)
    four, eight = config.activation_quantization
    assert (four.bits, four.schedule_offset, four.range_calibration) == (4, 5, "static")
    assert (eight.schedule_offset, eight.range_calibration, eight.modules) == (1000, "dynamic", ("*",))
    assert config.kd is not None
    assert config.kd.layer_map == (0, 2, 4)


def test_disabled_techniques_are_absent_and_warned_about() -> None:
    _, config = load_config(HERE / "good" / "everything_off.json")
    assert config.layer_reduction is None
    assert config.weight_quantization == ()
    assert config.kd is None
    assert [problem.path for problem in config.warnings] == ["compression_training"]
