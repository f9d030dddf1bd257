"""Remarks that do not stop a config, and the texts that cannot stand in a JSON file."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

from xtc_ds.config import CompressionConfig, check_block, parse_block


def _weights(start: float = 1, **shared: Any) -> dict[str, Any]:
    group = {"params": {"start_bits": start, "target_bits": 1}}
    return {"weight_quantization": {"shared_parameters": {"enabled": True, **shared}, "different_groups": {"g": group}}}


def _prune(technique: str, ratio: float, **shared: Any) -> dict[str, Any]:
    groups = {"g": {"params": {"dense_ratio": ratio}}}
    return {f"{technique}_pruning": {"shared_parameters": {"enabled": True, **shared}, "different_groups": groups}}


_NOTHING_TAUGHT = {"logits_weight": 0, "hidden_weight": 0, "attention_weight": 0}


@pytest.mark.parametrize(
    ("block", "path", "words"),
    [
        (_weights(quantizer_kernel=True), "weight_quantization.shared_parameters.quantizer_kernel", "has no effect"),
        (_weights(quantize_verbose=True), "weight_quantization.shared_parameters.quantize_verbose", "has no effect"),
        (
            _weights(start=8, quantize_weight_in_forward=True),
            "weight_quantization.different_groups.g.params.start_bits",
            "falls to 1 here; the old library used target_bits at once",
        ),
        (
            _weights(rounding="stochastic", quantize_weight_in_forward=True, fp16_mixed_quantize={"enabled": False}),
            "weight_quantization.shared_parameters.rounding",
            "the old library left this out",
        ),
        (
            _weights(quantize_weight_in_forward=True, fp16_mixed_quantize={"enabled": True}),
            "weight_quantization.shared_parameters.fp16_mixed_quantize.enabled",
            "the old library left this out",
        ),
        (_weights(rounding="stochastic"), "weight_quantization.shared_parameters.rounding", "binary or ternary"),
        (
            _weights(fp16_mixed_quantize={"enabled": True, "quantize_change_ratio": 0}),
            "weight_quantization.shared_parameters.fp16_mixed_quantize.quantize_change_ratio",
            "never falls",
        ),
        (
            {**_weights(), "runtime": {"backward_dtype": "bfloat16", "integer_forward": False}},
            "runtime.backward_dtype",
            "no effect while integer_forward is false",
        ),
        (_prune("row", 1), "row_pruning.different_groups.g.params.dense_ratio", "nothing is pruned"),
        (_prune("sparse", 1), "sparse_pruning.different_groups.g.params.dense_ratio", "nothing is pruned"),
        (
            _prune("sparse", 1, block_pattern="2:2"),
            "sparse_pruning.shared_parameters.block_pattern",
            "nothing is pruned",
        ),
        (
            _prune("sparse", 0.5, schedule_offset_end=2000),
            "sparse_pruning.shared_parameters.schedule_offset_end",
            'no effect with method "l1"',
        ),
        (
            _prune("sparse", 0.5, method="topk", schedule_offset_stride=5),
            "sparse_pruning.shared_parameters.schedule_offset_stride",
            'no effect with method "topk"',
        ),
        ({**_weights(), "row_pruning": {"shared_parameters": {}}}, "row_pruning.shared_parameters", "is missing"),
        ({"kd": {"enabled": True, "temperature": 2, "logits_weight": 0}}, "kd.temperature", "logits_weight is 0"),
        (
            {"kd": {"enabled": True, "attention_type": "relations", "attention_weight": 0}},
            "kd.attention_type",
            "attention_weight is 0",
        ),
        ({"kd": {"enabled": True, "cache_folder": "there"}}, "kd.cache_folder", 'cache is "none"'),
        (
            {"kd": {"enabled": True, "teacher_dtype": "float16", "hard_label_weight": 1, **_NOTHING_TAUGHT}},
            "kd.teacher_dtype",
            "nothing is learned from the teacher",
        ),
        (
            {"kd": {"enabled": True, "layer_map": [1], "attention_weight": 0, "hidden_weight": 0}},
            "kd.layer_map",
            "hidden_weight and attention_weight are 0",
        ),
        (
            {**_weights(), "layer_reduction": {"keep_number_layer": 3}},
            "layer_reduction",
            '"enabled" is missing',
        ),
    ],
)
def test_warning(block: dict[str, Any], path: str, words: str) -> None:
    errors, warnings = check_block(block)
    assert errors == []
    assert [problem.path for problem in warnings] == [f"compression_training.{path}"]
    assert words in warnings[0].message
    assert parse_block(block).warnings == tuple(warnings)


def test_moq_needs_no_warning() -> None:
    mixing = {"enabled": True}
    _, warnings = check_block(_weights(start=8, quantize_weight_in_forward=False, fp16_mixed_quantize=mixing))
    assert warnings == []


def test_config_is_frozen_copied_and_pickled() -> None:
    block = _weights()
    config = parse_block(block)
    block["weight_quantization"]["different_groups"].clear()
    config.to_dict().clear()
    assert len(config.raw["weight_quantization"]["different_groups"]) == 1
    assert pickle.loads(pickle.dumps(config)) == config
    assert isinstance(hash(config), int)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.kd = None  # type: ignore[misc]


def test_defaults_of_an_empty_block() -> None:
    config = parse_block({})
    assert dataclasses.replace(config, warnings=()) == CompressionConfig()
