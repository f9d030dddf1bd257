"""The config as the old functions took it: a dict or a file, with or without the block."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from xtc_ds.config import CompressionConfig, load_config, read_config, split_config
from xtc_ds.config.legacy import check_top_level
from xtc_ds.config.locate import BLOCK

__all__ = ["anything_enabled", "block_of", "get_compression_config"]

_GROUPED = (
    "weight_quantization",
    "activation_quantization",
    "sparse_pruning",
    "row_pruning",
    "head_pruning",
    "channel_pruning",
)


def block_of(deepspeed_config: Any) -> CompressionConfig | None:
    """The checked block of a config (dict, path of a JSON or HJSON file); None where it has none.

    Raises ConfigError with all problems at once.
    """
    config = read_config(deepspeed_config)
    # A misspelt block is an error of load_config, not the absence of a block.
    if BLOCK not in config and not check_top_level(config):
        return None
    return load_config(config)[1]


def anything_enabled(block: CompressionConfig) -> bool:
    """Whether the block asks for anything at all."""
    return bool(
        block.layer_reduction
        or block.weight_quantization
        or block.activation_quantization
        or block.sparse_pruning
        or block.row_pruning
        or block.head_pruning
        or block.channel_pruning
        or block.kd
    )


def get_compression_config(param_dict: Any) -> dict[str, Any]:
    """All techniques of a config by name, those that it does not mention as disabled.

    param_dict: a DeepSpeed config (dict or path), or what this function returned before. It is not changed.
    """
    if isinstance(param_dict, Mapping) and BLOCK not in param_dict and set(param_dict) & {*_GROUPED, "layer_reduction"}:
        block: dict[str, Any] = copy.deepcopy(dict(param_dict))
    else:
        block = split_config(read_config(param_dict))[1] or {}
    for name in _GROUPED:
        technique = block.setdefault(name, {})
        technique.setdefault("shared_parameters", {}).setdefault("enabled", False)
        technique.setdefault("different_groups", {})
    block.setdefault("layer_reduction", {}).setdefault("enabled", False)
    return block
