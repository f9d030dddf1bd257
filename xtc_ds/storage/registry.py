"""The registry of the kinds of stored weights, and their conversion to and from JSON. Input is always validated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xtc_ds.errors import FormatError
from xtc_ds.storage.base import StoredWeight

__all__ = ["register_storage", "weight_from_json", "weight_to_json"]

_KINDS: dict[str, type[StoredWeight]] = {}
# Kinds of the first three versions of the file format; entries do not name them, they are inferred from the keys.
_UNNAMED = ("dense", "coded", "masked", "sparse")


def register_storage(kind: type[StoredWeight]) -> None:
    """Register a kind under its name. Raises FormatError if the name is taken."""
    if kind.kind in _KINDS:
        raise FormatError(f"stored weights of kind '{kind.kind}' are registered already")
    _KINDS[kind.kind] = kind


def weight_to_json(weight: StoredWeight) -> dict[str, Any]:
    """A stored weight as JSON-compatible data."""
    return weight.to_json() if weight.kind in _UNNAMED else {"stored": weight.kind, **weight.to_json()}


def weight_from_json(content: Mapping[str, Any]) -> StoredWeight:
    """The inverse of ``weight_to_json``. Raises KeyError, TypeError, ValueError or FormatError for invalid content."""
    name = content.get("stored")
    if name is None:
        name = _unnamed(content)
    if name not in _KINDS:
        raise ValueError(f"a weight stored as {name!r}; known: {', '.join(_KINDS)}")
    return _KINDS[name].from_json(content)


def _unnamed(content: Mapping[str, Any]) -> str:
    masked = content.get("masked", False)
    if type(masked) is not bool or (masked and content["format"] is None):
        raise ValueError(f"masked {masked!r} of format {content['format']!r}")
    if content.get("sparse") is not None:
        return "sparse"
    if masked:
        return "masked"
    return "dense" if content["format"] is None else "coded"
