"""Read configs as the old functions accepted them: a dict or a file, with or without the block."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from xtc_ds.config import CompressionConfig, load_config, read_config, sections, split_config
from xtc_ds.config.grouped_section import GroupedSection
from xtc_ds.config.legacy import check_top_level
from xtc_ds.config.locate import BLOCK

__all__ = ["anything_enabled", "block_of", "get_compression_config", "has_other_block"]


def block_of(deepspeed_config: Any) -> CompressionConfig | None:
    """The validated block of a config (dict, path of a JSON or HJSON file); None if it has no block.

    Raises ConfigError with all problems at once.
    """
    config = read_config(deepspeed_config)
    # load_config reports a misspelt block; it must not count as a missing one.
    if BLOCK not in config and not check_top_level(config):
        return None
    return load_config(config)[1]


def has_other_block(deepspeed_config: Any, parsed: CompressionConfig) -> bool:
    """Whether a config has a block that differs from ``parsed``; only a differing block is validated.

    Raises ConfigError with all problems of a differing block.
    """
    config = read_config(deepspeed_config)
    if not check_top_level(config) and config.get(BLOCK) == dict(parsed.raw):
        return False
    other = block_of(config)
    return other is not None and dict(other.raw) != dict(parsed.raw)


def anything_enabled(block: CompressionConfig) -> bool:
    """Whether the block enables any technique."""
    return bool(block.enabled())


def get_compression_config(param_dict: Any) -> dict[str, Any]:
    """All techniques of a config by name; techniques that it does not mention are added as disabled.

    param_dict: a DeepSpeed config (dict or path), or an earlier result of this function. It is not changed.
    """
    old = [section for section in sections() if section.old]
    if isinstance(param_dict, Mapping) and BLOCK not in param_dict and set(param_dict) & {found.name for found in old}:
        block: dict[str, Any] = copy.deepcopy(dict(param_dict))
    else:
        block = split_config(read_config(param_dict))[1] or {}
    for section in old:
        holder = block.setdefault(section.name, {})
        for part in section.switch or ():
            holder = holder.setdefault(part, {})
        holder.setdefault("enabled", False)
        if isinstance(section, GroupedSection):
            block[section.name].setdefault("different_groups", {})
    return block
