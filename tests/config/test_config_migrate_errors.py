"""Old configs that cannot be migrated, and old configs with random damage."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.config.mutations import mutated_blocks
from xtc_ds.config import check_config
from xtc_ds.config.migrate import migrate_config
from xtc_ds.errors import ConfigError

ROOT = Path(__file__).parents[2]
OLD = sorted(
    [*(ROOT / "docs" / "examples").glob("old_*.json"), *(ROOT / "tests" / "config" / "good").glob("old_*.json")]
)


def weights(**shared: Any) -> dict[str, Any]:
    group = {"params": {"start_bits": 8, "target_bits": 8}, "modules": ["dense"]}
    return {"weight_quantization": {"shared_parameters": {"enabled": True, **shared}, "different_groups": {"g": group}}}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"train_batch_size": 4}, "there is nothing to migrate"),
        ({"quantize_training": {"enabled": False}}, "there is nothing to migrate"),
        ({"compression_training": weights(quantize_group=3)}, "did you mean 'quantize_groups'"),
        ({"compression_training": {"weight_quantisation": {}}}, "did you mean 'weight_quantization'"),
        ({"compression_training": []}, "wrong type"),
        ({"compression_training": {"layer_reduction": 3, "row_pruning": []}}, "wrong type"),
        ({"quantize_training": {"enabled": True, "quantize_bits": {"target_bits": 12}}}, "target_bits"),
    ],
)
def test_what_cannot_be_migrated_is_an_error(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        migrate_config(config)


@settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(mutated_blocks(3, [json.loads(path.read_text()) for path in OLD]))
def test_a_damaged_old_config_is_a_config_error_or_becomes_a_valid_one(old: dict[str, Any]) -> None:
    before = repr(old)
    try:
        new = migrate_config(old).config
    except ConfigError as error:
        assert error.problems
    else:
        assert check_config(new)[0] == []
        assert migrate_config(new).config == new
    assert repr(old) == before
