"""What the pruning techniques and the modes of weight quantization are parsed to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xtc_ds.config import CompressionConfig, load_config, parse_block
from xtc_ds.techniques.row_pruning.config import RowGroup
from xtc_ds.techniques.sparse_pruning.config import SparseGroup

ALL = Path(__file__).parent / "good" / "all_techniques.json"


def _sparse(groups: dict[str, Any] | None = None, **shared: Any) -> tuple[SparseGroup, ...]:
    technique = {"shared_parameters": {"enabled": True, **shared}, "different_groups": groups or {}}
    return parse_block({"sparse_pruning": technique}).sparse_pruning


@pytest.fixture(scope="module")
def config() -> CompressionConfig:
    return load_config(ALL)[1]


def test_weight_groups_have_mode_rounding_and_mixing(config: CompressionConfig) -> None:
    falling, fixed = config.weight_quantization
    assert (falling.rounding, falling.quantize_change_ratio, falling.quantize_groups) == ("stochastic", 0.1, 2)
    assert (fixed.rounding, fixed.quantize_change_ratio, fixed.schedule_offset) == ("nearest", None, 0)
    assert not falling.quantize_weight_in_forward
    assert config.warnings == ()
    assert config.kd is not None
    assert config.kd.module_name_prefix == "bert.encoder.layer"


def test_sparse_groups_win_over_shared(config: CompressionConfig) -> None:
    blocks, two_of_four, single = config.sparse_pruning
    assert (blocks.method, blocks.dense_ratio, blocks.block_pattern) == ("snip_momentum", 0.2, "4x1")
    assert (blocks.schedule_offset, blocks.schedule_offset_end, blocks.schedule_offset_stride) == (100, 500, 10)
    assert blocks.exclude == ("attention", "classifier")
    assert (two_of_four.dense_ratio, two_of_four.block_pattern) == (0.5, "2:4")
    assert (single.method, single.block_pattern, single.schedule_offset) == ("topk", None, 0)
    assert single.schedule_offset_end is None


def test_structured_groups(config: CompressionConfig) -> None:
    (row,), (first, second), (channel,) = config.row_pruning, config.head_pruning, config.channel_pruning
    assert row == RowGroup(
        name="r1",
        path="compression_training.row_pruning.different_groups.r1",
        modules=("intermediate.dense",),
        dense_ratio=0.5,
        method="topk",
        schedule_offset=30,
        related_modules=(("layer.\\w+.output.dense",),),
    )
    assert (first.method, first.num_heads, first.schedule_offset) == ("topk", 4, 1000)
    assert first.related_modules == (("self.query", "self.key", "self.value"),)
    assert (second.method, second.num_heads, second.schedule_offset) == ("l1", 8, 0)
    assert second.related_modules is None
    assert (channel.method, channel.schedule_offset, channel.optional) == ("l1", 1000, True)
    assert channel.related_modules == (("layer1.conv2", "layer1.bn1"), ("layer1.bn2",))


def test_snip_momentum_without_groups_takes_all_modules_but_the_excluded() -> None:
    (group,) = _sparse(method="snip_momentum", schedule_offset=30, excluded_modules=["classifier", "pooler"])
    assert group == SparseGroup(
        name="shared",
        path="compression_training.sparse_pruning.shared_parameters",
        exclude=("classifier", "pooler"),
        dense_ratio=0.1,
        method="snip_momentum",
        schedule_offset=30,
        schedule_offset_end=30,
        block_pattern="4x1",
    )


def test_n_of_m_gives_the_dense_ratio() -> None:
    (group,) = _sparse({"a": {"params": {}}}, block_pattern="1:3")
    assert (group.method, group.dense_ratio) == ("l1", 1 / 3)
    (group,) = _sparse(method="snip_momentum", block_pattern="2:4")
    assert group.dense_ratio == 0.5


def test_single_weights_unless_asked_otherwise() -> None:
    (group,) = _sparse({"a": {"params": {"dense_ratio": 0.5}}})
    assert (group.method, group.block_pattern, group.schedule_offset) == ("l1", None, 1000)


def test_a_disabled_pruning_may_hold_anything_old() -> None:
    shared = {"enabled": False, "method": 3, "num_heads": None, "schedule_offset": "late", "block_pattern": []}
    block = {"sparse_pruning": {"shared_parameters": shared, "different_groups": {"a": 1, "b": {"modules": "("}}}}
    config = parse_block(block)
    assert config.sparse_pruning == ()
    assert config.to_dict() == block
