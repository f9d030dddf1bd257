"""The keys of a section of the block, described by the fields of its dataclass.

Schema, documentation, parsing, defaults and migration are all derived from these descriptions.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from functools import cache
from typing import Any, Literal

from xtc_ds.errors import ConfigError

__all__ = ["Key", "Old", "Patterns", "Scope", "UNSAID", "key", "keys_from", "keys_of", "other_pieces"]

# Where a key of a group is allowed. both: in shared_parameters and in params, which override it; group: beside params.
Scope = Literal["params", "shared", "both", "group"]

UNSAID: Any = object()

_KEY, _FROM = "xtc_ds.key", "xtc_ds.keys_from"


@dataclass(frozen=True)
class Old:
    """Marks a key of DeepSpeed's compression library (up to 0.19.6), and describes how that library treated it.

    group_ignored: the library read the key only from ``shared_parameters``; a value in a group's params was ignored.
    default: the value that its code used for a missing key, if it differs from the default here.
    documented: the default in its documentation, if its code used another one.
    """

    group_ignored: bool = False
    default: Any = UNSAID
    documented: Any = UNSAID


@dataclass(frozen=True)
class Patterns:
    """Marks a key with regular expressions that are searched in module names.

    star: the effect that ``"*"`` would have, if it is refused here; None: it means all modules.
    example: a pattern to show in error messages.
    """

    star: str | None = None
    example: str = "attention.self"


@dataclass(frozen=True)
class Key:
    """One key. ``annotation`` is the type of its value; ``schema`` holds additional JSON Schema keywords.

    allowed: the allowed values in words, if the schema's keywords do not make a good sentence.
    choices: returns the allowed values, with a sentence about each or "", if values can be added by registration.
    before: the key before which this one is listed, for a key added to a section by another dataclass.
    depends: the default depends on other keys. no_effect: accepted only for old configs.
    aliases: other names for the key. value_aliases: other names for its values.
    """

    name: str
    annotation: Any
    default: Any
    text: str
    examples: tuple[Any, ...]
    scope: Scope
    schema: Mapping[str, Any]
    allowed: str | None
    choices: Callable[[], Mapping[str, str]] | None
    before: str | None
    depends: bool
    no_effect: bool
    old: Old | None
    patterns: Patterns | None
    aliases: tuple[str, ...]
    value_aliases: Mapping[str, str]

    def full_text(self) -> str:
        """The description, followed by those of single values."""
        more = self.choices().values() if self.choices is not None else ()
        return " ".join([self.text, *filter(None, more)])


def key(
    text: str,
    default: Any = MISSING,
    *,
    examples: Sequence[Any],
    scope: Scope = "both",
    allowed: str | None = None,
    choices: Callable[[], Mapping[str, str]] | None = None,
    before: str | None = None,
    depends: bool = False,
    no_effect: bool = False,
    old: Old | None = None,
    patterns: Patterns | None = None,
    aliases: Sequence[str] = (),
    value_aliases: Mapping[str, str] | None = None,
    **schema: Any,
) -> Any:
    """A dataclass field that is a key of the block; see :class:`Key`.

    schema: JSON Schema keywords in addition to those that follow from the annotation (``minimum=0``,
        ``items={"minimum": 0}``); None removes one.
    """
    described = {
        "text": text,
        "examples": tuple(examples),
        "scope": scope,
        "schema": schema,
        "allowed": allowed,
        "choices": choices,
        "before": before,
        "depends": depends,
        "no_effect": no_effect,
        "old": old,
        "patterns": patterns,
        "aliases": tuple(aliases),
        "value_aliases": value_aliases or {},
    }
    return dataclasses.field(default=default, metadata={_KEY: described})


def keys_from(pieces: Callable[[], Iterable[type]]) -> Any:
    """A dataclass field: a tuple of one object per class in ``pieces()``, whose keys are beside those of the section.

    In this way a section can have keys that are registered elsewhere.
    """
    return dataclasses.field(default_factory=lambda: tuple(piece() for piece in pieces()), metadata={_FROM: pieces})


def other_pieces(piece: type) -> dict[str, tuple[type, ...]]:
    """The fields made with :func:`keys_from`, and the dataclasses of each."""
    fields = dataclasses.fields(piece)
    return {field.name: tuple(field.metadata[_FROM]()) for field in fields if _FROM in field.metadata}


def keys_of(piece: type) -> tuple[Key, ...]:
    """The keys of a dataclass in the order of its fields; fields made without :func:`key` are not keys.

    Raises ConfigError if a registered class adds a key that exists already.
    """
    own, others = _own_keys(piece), other_pieces(piece)
    found: list[Key] = []
    for field in dataclasses.fields(piece):
        found += [own[field.name]] if field.name in own else []
        found += [key for other in others.get(field.name, ()) for key in keys_of(other)]
    names = [key.name for key in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(
            f"{piece.__name__}: several of its parts bring the key {', '.join(sorted(twice))}; rename one"
        )
    return tuple(_listed(found))


def _listed(keys: list[Key]) -> list[Key]:
    """The keys in the order in which they are listed, with ``before`` applied."""
    listed = [key for key in keys if key.before is None]
    for key in keys:
        if key.before is not None:
            names = [other.name for other in listed]
            listed.insert(names.index(key.before) if key.before in names else len(listed), key)
    return listed


@cache
def _own_keys(piece: type) -> dict[str, Key]:
    types = typing.get_type_hints(piece)
    return {
        field.name: Key(name=field.name, annotation=types[field.name], default=field.default, **field.metadata[_KEY])
        for field in dataclasses.fields(piece)
        if _KEY in field.metadata
    }
