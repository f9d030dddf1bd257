"""Migration steps for all techniques with groups: shared keys that took precedence, and wrongly documented defaults."""

from __future__ import annotations

from dataclasses import MISSING
from typing import Any

from xtc_ds.config.convert import to_json
from xtc_ds.config.grouped_section import GroupedSection
from xtc_ds.config.keys import UNSAID, Key
from xtc_ds.config.locate import show_value
from xtc_ds.config.migrate.blocks import enabled, groups_of, shared_of
from xtc_ds.config.migrate.note import Note, note
from xtc_ds.config.section import Section

__all__ = ["migrate_groups"]


def migrate_groups(section: Section[Any], block: dict[str, Any]) -> list[Note]:
    """Write out the values that the old code used, if the technique is on; ``block`` is changed in place."""
    if not isinstance(section, GroupedSection) or not section.old or not enabled(block, section.name):
        return []
    return _defaults(section, block) + _overrides(section, block) + _modules(section.name, block)


def _defaults(section: GroupedSection[Any], block: dict[str, Any]) -> list[Note]:
    shared = shared_of(block, section.name)
    notes = []
    for key in section.keys("shared", "both"):
        if key.old is None or key.old.documented is UNSAID or key.name in shared:
            continue
        taken, documented = _taken(key), key.old.documented
        if taken != documented:
            shared[key.name] = taken
            before = f"left out; the documentation gave {show_value(documented)}, the code took {show_value(taken)}"
            place = (section.name, "shared_parameters", key.name)
            notes.append(note("written out", place, before, show_value(taken)))
    return notes


def _overrides(section: GroupedSection[Any], block: dict[str, Any]) -> list[Note]:
    """Handle params of a group that the old code overrode by shared keys or their defaults; in xtc_ds params win."""
    shared = shared_of(block, section.name)
    ignored = {key.name: key for key in section.keys("both") if key.old is not None and key.old.group_ignored}
    notes = []
    for name, _, params in groups_of(block, section.name):
        for key in [key for key in params if key in ignored]:
            value, force = params.pop(key), shared.get(key, _taken(ignored[key]))
            if value != force:
                before = f"{show_value(value)}; ignored, shared_parameters won with {show_value(force)}"
                now = "taken out, for the same training; here a key in params wins, so put it back if you meant it"
                notes.append(note("removed", (section.name, "different_groups", name, "params", key), before, now))
    return notes


def _modules(technique: str, block: dict[str, Any]) -> list[Note]:
    notes = []
    for name, group, _ in groups_of(block, technique):
        if "modules" not in group:
            group["modules"] = ["*"]
            before = 'left out; the default "*" failed as a regular expression'
            now = '["*"], every layer that the technique can take'
            notes.append(note("written out", (technique, "different_groups", name, "modules"), before, now))
    return notes


def _taken(key: Key) -> Any:
    """The value that the old code used for a missing key; None if it had no default."""
    assert key.old is not None
    taken = key.default if key.old.default is UNSAID else key.old.default
    return None if taken is MISSING else to_json(taken)
