"""A note on one change of a migration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xtc_ds.config.locate import Path, render_path

__all__ = ["Action", "Note", "note"]

Action = Literal["changed", "written out", "removed", "added", "same key", "left", "warning"]


@dataclass(frozen=True)
class Note:
    """What the migration did with one key.

    ``action``: changed, written out (a default that the documentation gave differently), removed, added, same key
    (unchanged, but it means more or something else now), left (not a key of xtc_ds, but DeepSpeed will refuse it), or
    warning (from the validation of the new config).
    """

    action: Action
    path: str
    before: str
    now: str

    def lines(self) -> list[str]:
        """The note as text, for a terminal or a file."""
        found = [f"{self.action}: {self.path}"]
        found += [f"  before: {self.before}"] if self.before else []
        return [*found, f"  now:    {self.now}"]


def note(action: Action, path: Path, before: str, now: str) -> Note:
    """A note about a key of the block."""
    return Note(action, render_path(path), before, now)
