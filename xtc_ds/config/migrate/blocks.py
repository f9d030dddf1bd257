"""Small questions about an old block; values of the wrong type are left for the validation to report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xtc_ds.config.schema import all_keys
from xtc_ds.config.section import sections

__all__ = ["enabled", "groups_of", "is_new", "mapping", "shared_of"]


def mapping(holder: Any, key: str) -> dict[str, Any]:
    """``holder[key]`` if that is an object; else an empty one that stands for it."""
    found = holder.get(key) if isinstance(holder, dict) else None
    return found if isinstance(found, dict) else {}


def shared_of(block: dict[str, Any], technique: str) -> dict[str, Any]:
    """The shared_parameters of a technique."""
    return mapping(mapping(block, technique), "shared_parameters")


def enabled(block: dict[str, Any], technique: str) -> bool:
    """Whether a technique with groups is on."""
    return shared_of(block, technique).get("enabled", False) is True


def groups_of(block: dict[str, Any], technique: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, group, params) of each group that is an object."""
    for name, group in mapping(mapping(block, technique), "different_groups").items():
        if isinstance(group, dict):
            yield name, group, mapping(group, "params")


def is_new(block: dict[str, Any]) -> bool:
    """Whether a block holds a key that the old library did not know, so that it was written for this one."""
    old = {key.name for section, key in all_keys() if section.old and key.old is not None}
    new = {key.name for section, key in all_keys() if section.old} - old
    return _holds(block, new | {section.name for section in sections() if not section.old})


def _holds(value: Any, keys: set[str]) -> bool:
    if isinstance(value, dict):
        return any(key in keys or _holds(inner, keys) for key, inner in value.items())
    return isinstance(value, list) and any(_holds(inner, keys) for inner in value)
