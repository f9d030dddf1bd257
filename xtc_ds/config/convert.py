"""Convert JSON values to the annotated types of the dataclasses, and defaults back to JSON."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Literal

from xtc_ds.config.keys import keys_of

__all__ = ["from_json", "to_json", "without_none"]


def from_json(value: Any, annotation: Any) -> Any:
    """Convert ``value``, which fits the schema of ``annotation``, to that type.

    JSON has one number type: 8.0 is the integer 8. A list becomes a tuple; a single string is a list of one; an object
    becomes its dataclass.
    """
    if value is None:
        return None
    annotation = without_none(annotation)
    origin = typing.get_origin(annotation)
    if origin is tuple:
        item = typing.get_args(annotation)[0]
        return tuple(from_json(entry, item) for entry in ([value] if isinstance(value, str) else value))
    if origin is Literal:
        return value
    if dataclasses.is_dataclass(annotation):
        inner = {key.name: key.annotation for key in keys_of(typing.cast(type, annotation))}
        return annotation(**{name: from_json(entry, inner[name]) for name, entry in value.items()})  # type: ignore[operator]
    return annotation(value) if annotation in (int, float) else value


def to_json(value: Any) -> Any:
    """A default as JSON; a dataclass of defaults is an empty object."""
    if isinstance(value, tuple):
        return [to_json(entry) for entry in value]
    return {} if dataclasses.is_dataclass(value) else value


def without_none(annotation: Any) -> Any:
    """``X`` for the annotation ``X | None``; any other annotation unchanged."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = (part for part in typing.get_args(annotation) if part is not type(None))
    return annotation
