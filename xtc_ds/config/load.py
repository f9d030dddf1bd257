"""From a DeepSpeed config to (what DeepSpeed gets, what xtc_ds gets)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from xtc_ds.config.compression_config import CompressionConfig
from xtc_ds.config.legacy import check_top_level
from xtc_ds.config.locate import BLOCK
from xtc_ds.config.source import read_config
from xtc_ds.config.validate import Checked, examine
from xtc_ds.errors import ConfigError, Problem

__all__ = ["check_config", "load_config"]

Source = str | os.PathLike[str] | Mapping[str, Any]


def check_config(source: Source) -> tuple[list[Problem], list[Problem]]:
    """(errors, warnings) of a whole DeepSpeed config; only an unreadable one raises :class:`ConfigError`."""
    errors, found = _examine(read_config(source))
    return errors, list(found.warnings)


def load_config(source: Source) -> tuple[dict[str, Any], CompressionConfig]:
    """Read a config and take the block out of a copy of it.

    Returns the DeepSpeed config without the block, and the parsed block. A mapping may hold a parsed block already; it
    has been validated then. Raises :class:`ConfigError` with all problems at once, also if there is no block.
    """
    ds_config = read_config(source)
    errors, found = _examine(ds_config)
    if errors:
        raise ConfigError(errors)
    rest = {key: value for key, value in ds_config.items() if key != BLOCK}
    return rest, found if isinstance(found, CompressionConfig) else found.parsed()


def _examine(ds_config: Mapping[str, Any]) -> tuple[list[Problem], Checked | CompressionConfig]:
    """All errors of a config, and its block: what was found in it, or itself if it is parsed already."""
    errors = check_top_level(ds_config)
    if BLOCK not in ds_config:
        missing = Problem(BLOCK, "missing; the config has no such block, so there is nothing to compress")
        return errors or [missing], Checked({}, [], [])
    block = ds_config[BLOCK]
    if isinstance(block, CompressionConfig):
        return errors, block
    checked = examine(block)
    return errors + checked.errors, checked
