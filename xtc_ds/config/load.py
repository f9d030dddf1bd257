"""Split a DeepSpeed config into the part for DeepSpeed and the parsed block for xtc_ds."""

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
    """(errors, warnings) of a whole DeepSpeed config. Raises :class:`ConfigError` only for an unreadable one."""
    errors, found = _examine(read_config(source))
    return errors, list(found.warnings)


def load_config(source: Source) -> tuple[dict[str, Any], CompressionConfig]:
    """Read a config and split off its ``compression_training`` block; ``source`` is not changed.

    Returns (DeepSpeed config without the block, parsed block). A mapping may contain an already parsed block, which is
    not validated again. Raises :class:`ConfigError` with all problems at once, also if there is no block.
    """
    ds_config = read_config(source)
    errors, found = _examine(ds_config)
    if errors:
        raise ConfigError(errors)
    rest = {key: value for key, value in ds_config.items() if key != BLOCK}
    return rest, found if isinstance(found, CompressionConfig) else found.parsed()


def _examine(ds_config: Mapping[str, Any]) -> tuple[list[Problem], Checked | CompressionConfig]:
    """All errors of a config, and its block: the result of the validation, or the block itself if already parsed."""
    errors = check_top_level(ds_config)
    if BLOCK not in ds_config:
        missing = Problem(BLOCK, "missing; the config has no such block, so there is nothing to compress")
        return errors or [missing], Checked({}, [], [])
    block = ds_config[BLOCK]
    if isinstance(block, CompressionConfig):
        return errors, block
    checked = examine(block)
    return errors + checked.errors, checked
