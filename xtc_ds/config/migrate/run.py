"""Run a whole migration: all steps on a copy, then the validation of the result."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from xtc_ds.config.grouped_section import GroupedSection
from xtc_ds.config.load import check_config
from xtc_ds.config.locate import BLOCK
from xtc_ds.config.migrate.blocks import is_new
from xtc_ds.config.migrate.groups import migrate_groups
from xtc_ds.config.migrate.note import Note
from xtc_ds.config.migrate.top_level import note_rejected
from xtc_ds.config.section import sections
from xtc_ds.errors import ConfigError, Problem

__all__ = ["Migration", "migrate_config"]


@dataclass(frozen=True)
class Migration:
    """The new, valid DeepSpeed config and the notes on all changes."""

    config: dict[str, Any]
    notes: tuple[Note, ...]


def migrate_config(old: Mapping[str, Any], skip: Collection[str] = ()) -> Migration:
    """Convert a DeepSpeed config with an old block to one that trains the same with xtc_ds; ``old`` is not changed.

    skip: sections to leave unchanged. For example, without "kd" in it, a ``kd`` block is added where the old examples
        had distillation code in their scripts.

    Raises :class:`~xtc_ds.errors.ConfigError` if there is nothing to migrate, or with every problem of the new config.
    """
    config = copy.deepcopy(dict(old))
    given = config.get(BLOCK, {})
    block = given if isinstance(given, dict) else {}
    new = is_new(block)
    notes = [
        found
        for section in sections()
        if section.migrate_top_level is not None
        for found in section.migrate_top_level(config, block)
    ]
    if BLOCK not in config and not block:
        raise ConfigError([Problem(BLOCK, "missing, and no quantize_training is on: there is nothing to migrate")])
    if isinstance(given, dict):
        config[BLOCK] = block
        notes += _already() if new else _steps(block, skip)
    notes += note_rejected(config)
    errors, warnings = check_config(config)
    if errors:
        raise ConfigError(errors)
    notes += [Note("warning", found.path, "", found.message) for found in warnings]
    return Migration(config, tuple(notes))


def _steps(block: dict[str, Any], skip: Collection[str]) -> list[Note]:
    """First the steps for all techniques with groups, then those of each section, sections with groups first."""
    taken = [section for section in sections() if section.name not in skip]
    notes = [found for section in taken for found in migrate_groups(section, block)]
    for section in sorted(taken, key=lambda section: not isinstance(section, GroupedSection)):
        notes += section.migrate(block) if section.migrate is not None else []
    return notes


def _already() -> list[Note]:
    now = "not touched: it has keys that the old library did not know, so it was written for this one"
    return [Note("same key", BLOCK, "", now)]
