"""What a config of the old library becomes, and what is said about it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from xtc_ds.config import load_config
from xtc_ds.config.migrate import Note, migrate_config

W = "compression_training.weight_quantization"


def weights(params: dict[str, Any] | None = None, **shared: Any) -> dict[str, Any]:
    group = {"params": {"start_bits": 8, "target_bits": 8, **(params or {})}, "modules": ["dense"]}
    return {"weight_quantization": {"shared_parameters": {"enabled": True, **shared}, "different_groups": {"g": group}}}


def migrated(block: dict[str, Any], **rest: Any) -> tuple[dict[str, Any], dict[str, Note]]:
    """The new block and its notes by path."""
    found = migrate_config({"compression_training": block, **rest})
    return found.config["compression_training"], {note.path: note for note in found.notes}


def test_forward_mode_keeps_its_bits_and_drops_what_it_ignored() -> None:
    mixing = {"enabled": True, "quantize_change_ratio": 0.1}
    block, notes = migrated(
        weights(
            {"start_bits": 12, "target_bits": 4, "quantization_period": 3},
            quantize_weight_in_forward=True,
            rounding="stochastic",
            fp16_mixed_quantize=mixing,
            quantize_verbose=True,
        )
    )
    technique = block["weight_quantization"]
    assert technique["different_groups"]["g"]["params"] == {"start_bits": 4, "target_bits": 4}
    assert technique["shared_parameters"] == {
        "enabled": True,
        "quantize_weight_in_forward": True,
        "rounding": "nearest",
        "fp16_mixed_quantize": {"enabled": False, "quantize_change_ratio": 0.1},
    }
    params = f"{W}.different_groups.g.params"
    assert set(notes) == {
        f"{params}.start_bits",
        f"{params}.quantization_period",
        f"{W}.shared_parameters.rounding",
        f"{W}.shared_parameters.fp16_mixed_quantize.enabled",
        f"{W}.shared_parameters.quantize_verbose",
    }
    assert "target_bits applied at once" in notes[f"{params}.start_bits"].before


def test_moq_keeps_its_schedule() -> None:
    params = {"start_bits": 12, "quantization_period": 3}
    block, notes = migrated(weights(params, quantize_groups=4, quantizer_kernel=True))
    technique = block["weight_quantization"]
    assert technique["different_groups"]["g"]["params"] == {**params, "target_bits": 8}
    assert technique["shared_parameters"]["quantize_weight_in_forward"] is False
    assert notes[f"{W}.shared_parameters.quantize_weight_in_forward"].action == "written out"
    assert "one scale per row" in notes[f"{W}.shared_parameters.quantize_groups"].now
    assert "stochastic" in notes[f"{W}.shared_parameters.rounding"].before
    assert "quantizer_kernel" not in technique["shared_parameters"]


def test_a_key_of_a_group_that_lost_against_the_shared_ones_is_taken_out() -> None:
    old = weights({"quantize_groups": 8, "schedule_offset": 0}, quantize_groups=4)
    block, notes = migrated(old)
    assert set(block["weight_quantization"]["different_groups"]["g"]["params"]) == {"start_bits", "target_bits"}
    lost = notes[f"{W}.different_groups.g.params.quantize_groups"]
    assert (lost.action, "won with 4" in lost.before) == ("removed", True)
    assert f"{W}.different_groups.g.params.schedule_offset" not in notes


@pytest.mark.parametrize(
    ("technique", "params", "shared"),
    [
        ("activation_quantization", {"bits": 8}, {"schedule_offset": 1000, "range_calibration": "dynamic"}),
        ("sparse_pruning", {"dense_ratio": 0.5}, {"schedule_offset": 1000}),
        ("row_pruning", {"dense_ratio": 0.5}, {"schedule_offset": 1000}),
        ("channel_pruning", {"dense_ratio": 0.5}, {"schedule_offset": 1000}),
    ],
)
def test_defaults_are_those_of_the_code(technique: str, params: Any, shared: dict[str, Any]) -> None:
    groups = {"g": {"params": params}}
    block, notes = migrated({technique: {"shared_parameters": {"enabled": True}, "different_groups": groups}})
    assert block[technique]["shared_parameters"] == {"enabled": True, **shared}
    assert block[technique]["different_groups"]["g"]["modules"] == ["*"]
    for key in shared:
        assert notes[f"compression_training.{technique}.shared_parameters.{key}"].action == "written out"


def test_layer_reduction_and_few_bits_get_distillation() -> None:
    reduction = {"enabled": True, "keep_number_layer": 3, "teacher_layer": [1, 3]}
    block, notes = migrated({"layer_reduction": reduction})
    assert block["layer_reduction"] == {"enabled": True, "teacher_layer": [1, 3]}
    assert notes["compression_training.layer_reduction.keep_number_layer"].action == "removed"
    assert block["kd"]["enabled"] is True
    assert [block["kd"][f"{part}_weight"] for part in ("logits", "hidden", "attention", "hard_label")] == [1, 1, 1, 0]
    assert "teacher=" in notes["compression_training.kd.teacher"].now
    for bits, distilled in ((1, True), (2, True), (4, False)):
        params = {"start_bits": bits, "target_bits": bits}
        assert ("kd" in migrated(weights(params))[0]) is distilled
    without = migrate_config({"compression_training": {"layer_reduction": reduction}}, skip={"kd"})
    assert set(without.config["compression_training"]) == {"layer_reduction"}


def test_quantize_training_becomes_weight_quantization() -> None:
    old = {
        "fp16": {"enabled": True},
        "eigenvalue": {"enabled": False},
        "quantize_training": {
            "enabled": True,
            "quantize_type": "asymmetric",
            "quantize_bits": {"target_bits": 6},
            "quantize_schedule": {"schedule_offset": 5},
            "quantize_algo": {"rounding": "stochastic"},
            "fp16_mixed_quantize": {"enabled": True, "quantize_change_ratio": 0.01},
            "quantise_groups": 4,
        },
    }
    before = copy.deepcopy(old)
    found = migrate_config(old)
    assert old == before
    assert set(found.config) == {"fp16", "compression_training"}
    (group,) = load_config(found.config)[1].weight_quantization
    assert (group.start_bits, group.target_bits, group.quantization_period) == (16, 6, 1000)
    assert (group.schedule_offset, group.quantize_groups, group.quantization_type) == (5, 1, "asymmetric")
    assert (group.rounding, group.quantize_change_ratio, group.modules) == ("stochastic", 0.01, ("*",))
    paths = {note.path: note.action for note in found.notes}
    assert paths["quantize_training.quantize_bits.start_bits"] == "written out"
    assert paths['quantize_training["quantise_groups"]'] == "removed"
    assert paths["eigenvalue"] == "removed"


def test_what_deepspeed_rejects_beside_the_block_is_named_and_left() -> None:
    rest = {"amp": {"enabled": False}, "zero_optimization": {"stage": 3, "mics_shard_size": 2}}
    found = migrate_config({"compression_training": weights(), **copy.deepcopy(rest)})
    left = {note.path for note in found.notes if note.action == "left"}
    assert left == {"amp", "zero_optimization.mics_shard_size"}
    assert {key: found.config[key] for key in rest} == rest


def test_the_old_deepspeed_rejects_what_is_named() -> None:
    from deepspeed.runtime import config as deepspeed_config

    from xtc_ds.config.migrate import top_level

    removed = getattr(deepspeed_config, "_REMOVED_TOP_LEVEL_CONFIG_KEYS", None)
    if removed is None:
        pytest.skip("this DeepSpeed has no list of removed keys")
    named = {*top_level._REJECTED, "compression_training", "quantize_training", "eigenvalue"}
    assert set(removed) <= named


def test_sparse_pruning_drops_what_only_snip_momentum_read() -> None:
    shared = {"enabled": True, "schedule_offset": 5, "schedule_offset_end": 5, "excluded_modules": ["head"]}
    groups = {"g": {"params": {"dense_ratio": 0.5}, "modules": ["dense"]}}
    block, notes = migrated({"sparse_pruning": {"shared_parameters": shared, "different_groups": groups}})
    assert "schedule_offset_end" not in block["sparse_pruning"]["shared_parameters"]
    assert "KeyError" in notes["compression_training.sparse_pruning.shared_parameters.method"].before
    snip = {**shared, "method": "snip_momentum", "dense_ratio": 0.2}
    block, _ = migrated({"sparse_pruning": {"shared_parameters": snip, "different_groups": {}}})
    assert block["sparse_pruning"]["shared_parameters"] == snip


def test_a_new_config_is_left_alone() -> None:
    new = {"compression_training": weights({"schedule_offset": 3}) | {"export": {}}}
    found = migrate_config(new)
    assert found.config == new
    assert [note.path for note in found.notes] == ["compression_training"]
