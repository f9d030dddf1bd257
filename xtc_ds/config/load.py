"""From a DeepSpeed config to (what DeepSpeed gets, what xtc_ds gets)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from xtc_ds.config.legacy import check_top_level
from xtc_ds.config.locate import BLOCK
from xtc_ds.config.model import CompressionConfig
from xtc_ds.config.parse import parse_block
from xtc_ds.config.source import read_config, split_config
from xtc_ds.config.validate import check_block
from xtc_ds.errors import ConfigError, Problem

__all__ = ["check_config", "load_config"]

Source = str | os.PathLike[str] | Mapping[str, Any]


def check_config(source: Source) -> tuple[list[Problem], list[Problem]]:
    """(errors, warnings) of a whole DeepSpeed config; only an unreadable one raises :class:`ConfigError`."""
    return _check(read_config(source))


def load_config(source: Source) -> tuple[dict[str, Any], CompressionConfig]:
    """Read a config and take the block out of a copy of it.

    Returns the DeepSpeed config without the block, and the parsed block. Raises
    :class:`ConfigError` with all problems at once, also if there is no block.
    """
    ds_config = read_config(source)
    errors, _ = _check(ds_config)
    if errors:
        raise ConfigError(errors)
    rest, block = split_config(ds_config)
    assert block is not None
    return rest, parse_block(block)


def _check(ds_config: dict[str, Any]) -> tuple[list[Problem], list[Problem]]:
    errors = check_top_level(ds_config)
    if BLOCK in ds_config:
        found, warnings = check_block(ds_config[BLOCK])
        return errors + found, warnings
    if not errors:
        errors.append(Problem(BLOCK, "missing; the config has no such block, so there is nothing to compress"))
    return errors, []
