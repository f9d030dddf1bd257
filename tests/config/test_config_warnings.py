"""Remarks that do not stop a config, and the texts that cannot stand in a JSON file."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

from xtc_ds.config import CompressionConfig, check_block, parse_block


def _weights(**shared: Any) -> dict[str, Any]:
    group = {"params": {"start_bits": 1, "target_bits": 1}}
    return {"weight_quantization": {"shared_parameters": {"enabled": True, **shared}, "different_groups": {"g": group}}}


@pytest.mark.parametrize(
    ("block", "path", "words"),
    [
        (_weights(quantizer_kernel=True), "weight_quantization.shared_parameters.quantizer_kernel", "has no effect"),
        (_weights(quantize_verbose=True), "weight_quantization.shared_parameters.quantize_verbose", "has no effect"),
        (
            _weights(quantize_weight_in_forward=False),
            "weight_quantization.shared_parameters.quantize_weight_in_forward",
            "makes no difference",
        ),
        ({"kd": {"enabled": True, "temperature": 2, "logits_weight": 0}}, "kd.temperature", "logits_weight is 0"),
        (
            {"kd": {"enabled": True, "attention_type": "relations", "attention_weight": 0}},
            "kd.attention_type",
            "attention_weight is 0",
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
