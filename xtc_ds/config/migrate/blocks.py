"""Helpers to read an old block. They ignore values of the wrong type, which the validation reports later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xtc_ds.config.schema import all_keys
from xtc_ds.config.section import sections

__all__ = ["enabled", "groups_of", "is_new", "mapping", "shared_of"]


def mapping(holder: Any, key: str) -> dict[str, Any]:
    """``holder[key]`` if it is an object; else a new empty dict."""
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
    """Whether a block holds a key that the old library did not know, and was therefore written for xtc_ds."""
    old = {key.name for section, key in all_keys() if section.old and key.old is not None}
    new = {key.name for section, key in all_keys() if section.old} - old
    return _holds(block, new | {section.name for section in sections() if not section.old})


def _holds(value: Any, keys: set[str]) -> bool:
    if isinstance(value, dict):
        return any(key in keys or _holds(inner, keys) for key, inner in value.items())
    return isinstance(value, list) and any(_holds(inner, keys) for inner in value)
