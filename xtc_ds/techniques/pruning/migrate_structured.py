"""Migration notes for structured pruning, most of which did not run to the end in the old library."""

from __future__ import annotations

from typing import Any

from xtc_ds.config.migrate.blocks import enabled, groups_of, shared_of
from xtc_ds.config.migrate.note import Note, note

__all__ = ["migrate_method", "migrate_related"]


def migrate_method(block: dict[str, Any], technique: str, default: str, error: str) -> list[Note]:
    """A note if the method is l1, with which ``technique`` stopped with ``error`` at the start in the old library."""
    if not enabled(block, technique) or shared_of(block, technique).get("method", default) != "l1":
        return []
    place = (technique, "shared_parameters", "method")
    return [note("same key", place, f"stopped with {error} at the start", '"l1"; runs')]


def migrate_related(block: dict[str, Any], technique: str, several: tuple[str, str] | None = None) -> list[Note]:
    """A note on each group that has ``related_modules``.

    several: the texts (before, now) for a group with more than one list.
    """
    usual = (
        "redundancy_clean made the layers smaller; nothing said so in the saved config",
        "freeze makes the layers smaller, and the packed checkpoint holds their sizes",
    )
    notes = []
    for name, group, _ in groups_of(block, technique) if enabled(block, technique) else ():
        related = group.get("related_modules")
        if related:
            before, now = several if several and isinstance(related, list) and len(related) > 1 else usual
            notes.append(note("same key", (technique, "different_groups", name, "related_modules"), before, now))
    return notes
