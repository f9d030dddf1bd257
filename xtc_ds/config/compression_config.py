"""A whole validated block."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xtc_ds.config.section import sections
from xtc_ds.errors import Problem

__all__ = ["CompressionConfig"]


def _all_absent() -> dict[str, Any]:
    return {section.name: section.read({}) for section in sections()}


@dataclass(frozen=True, kw_only=True)
class CompressionConfig:
    """What a ``compression_training`` block says, one entry per section; immutable.

    A section is also an attribute of its name: ``config.kd``. A technique with groups is a tuple of them; one that is
    absent or disabled is ``None`` or ``()``. ``warnings`` are remarks that did not stop the block; ``raw`` is its JSON.
    """

    # The values are hashable one by one; a mapping of them is not.
    parsed: Mapping[str, Any] = field(default_factory=_all_absent, hash=False)
    warnings: tuple[Problem, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def section(self, name: str) -> Any:
        """What the section of that name says."""
        return self.parsed[name]

    def __getattr__(self, name: str) -> Any:
        # Asked for only where there is no such field; while a copy is unpickled there is none at all.
        if not name.startswith("_") and name != "parsed" and name in self.parsed:
            return self.parsed[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __deepcopy__(self, memo: Any) -> CompressionConfig:
        return self

    def enabled(self) -> tuple[str, ...]:
        """The names of the sections that are switched on."""
        return tuple(section.name for section in sections() if section.enabled(self.raw.get(section.name)))

    def with_keys(self, name: str, **keys: Any) -> CompressionConfig:
        """A copy in which a section without groups has other values, of the same JSON and Python type, for ``keys``."""
        changed = dataclasses.replace(self.parsed[name], **keys)
        raw = {**self.raw, name: {**self.raw.get(name, {}), **keys}}
        return dataclasses.replace(self, parsed={**self.parsed, name: changed}, raw=raw)

    def to_dict(self) -> dict[str, Any]:
        """The block as it was given, as a new plain ``dict``."""
        return copy.deepcopy(dict(self.raw))
