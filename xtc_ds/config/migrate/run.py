"""A whole migration: every step on a copy, and the validation of the result."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xtc_ds.config.load import check_config
from xtc_ds.config.locate import BLOCK
from xtc_ds.config.migrate.blocks import is_new
from xtc_ds.config.migrate.groups import migrate_groups
from xtc_ds.config.migrate.moq import migrate_legacy
from xtc_ds.config.migrate.note import Note
from xtc_ds.config.migrate.pruning import migrate_prunings
from xtc_ds.config.migrate.reduction import add_distillation, migrate_reduction
from xtc_ds.config.migrate.top_level import note_rejected
from xtc_ds.config.migrate.weights import migrate_weights
from xtc_ds.errors import ConfigError, Problem

__all__ = ["Migration", "migrate_config"]


@dataclass(frozen=True)
class Migration:
    """The new DeepSpeed config, which passes the validation, and what changed on the way."""

    config: dict[str, Any]
    notes: tuple[Note, ...]


def migrate_config(old: Mapping[str, Any], kd: bool = True) -> Migration:
    """Turn a DeepSpeed config with an old block into one that trains the same here; ``old`` is not changed.

    ``kd`` adds the distillation that scripts used to hold where the old examples distilled. Raises
    :class:`~xtc_ds.errors.ConfigError` if there is nothing to migrate, or with every problem of the new config.
    """
    config = copy.deepcopy(dict(old))
    given = config.get(BLOCK, {})
    block = given if isinstance(given, dict) else {}
    new = is_new(block)
    notes = migrate_legacy(config, block)
    if BLOCK not in config and not block:
        raise ConfigError([Problem(BLOCK, "missing, and no quantize_training is on: there is nothing to migrate")])
    if isinstance(given, dict):
        config[BLOCK] = block
        notes += _already() if new else _steps(block, kd)
    notes += note_rejected(config)
    errors, warnings = check_config(config)
    if errors:
        raise ConfigError(errors)
    notes += [Note("warning", found.path, "", found.message) for found in warnings]
    return Migration(config, tuple(notes))


def _steps(block: dict[str, Any], kd: bool) -> list[Note]:
    notes = migrate_groups(block) + migrate_weights(block) + migrate_prunings(block) + migrate_reduction(block)
    return notes + (add_distillation(block) if kd else [])


def _already() -> list[Note]:
    now = "not touched: it has keys that the old library did not know, so it was written for this one"
    return [Note("same key", BLOCK, "", now)]
