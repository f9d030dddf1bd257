"""The whole validated block."""

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
    """A parsed ``compression_training`` block, with one entry per section; immutable.

    A section is also an attribute with its name: ``config.kd``. A technique with groups is a tuple of groups. An absent
    or disabled section is ``None`` or ``()``. ``warnings``: problems that did not stop the block; ``raw``: its JSON.
    """

    # Each value is hashable, but a mapping of values is not.
    parsed: Mapping[str, Any] = field(default_factory=_all_absent, hash=False)
    warnings: tuple[Problem, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def section(self, name: str) -> Any:
        """The parsed section ``name``."""
        return self.parsed[name]

    def __getattr__(self, name: str) -> Any:
        # Called only if there is no such field; while a copy is unpickled, there are no fields at all.
        if not name.startswith("_") and name != "parsed" and name in self.parsed:
            return self.parsed[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __deepcopy__(self, memo: Any) -> CompressionConfig:
        return self

    def enabled(self) -> tuple[str, ...]:
        """The names of the enabled sections."""
        return tuple(section.name for section in sections() if section.enabled(self.raw.get(section.name)))

    def with_keys(self, name: str, **keys: Any) -> CompressionConfig:
        """A copy with other values for ``keys`` of a section without groups, of the same JSON and Python type."""
        changed = dataclasses.replace(self.parsed[name], **keys)
        raw = {**self.raw, name: {**self.raw.get(name, {}), **keys}}
        return dataclasses.replace(self, parsed={**self.parsed, name: changed}, raw=raw)

    def to_dict(self) -> dict[str, Any]:
        """The original block, as a new plain ``dict``."""
        return copy.deepcopy(dict(self.raw))
