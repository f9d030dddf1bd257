"""The keys of a piece of the block, as the fields of its dataclass describe them.

Schema, documentation, parsing, defaults and migration all read these descriptions; nothing says the same twice.
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

# Where a key of a group may stand. both: in shared_parameters, and in params, which win; group: beside params.
Scope = Literal["params", "shared", "both", "group"]

UNSAID: Any = object()

_KEY, _FROM = "xtc_ds.key", "xtc_ds.keys_from"


@dataclass(frozen=True)
class Old:
    """Marks a key that DeepSpeed's compression library (up to 0.19.6) knew, and says how it treated it.

    group_ignored: the library read the key from ``shared_parameters`` alone; a value in a group's params was lost.
    default: what its code took for a missing key, if that is not the default here.
    documented: the default that its documentation gave, if its code took another one.
    """

    group_ignored: bool = False
    default: Any = UNSAID
    documented: Any = UNSAID


@dataclass(frozen=True)
class Patterns:
    """Marks a key that holds regular expressions searched in module names.

    star: what ``"*"`` would do here, where it is refused; None: it stands for all modules.
    example: a pattern to show beside an error.
    """

    star: str | None = None
    example: str = "attention.self"


@dataclass(frozen=True)
class Key:
    """One key. ``annotation`` is the type of its value; ``schema`` holds further keywords of JSON Schema.

    allowed: what is allowed, in words, where the schema's keywords do not make a good sentence.
    choices: gives the allowed values where they can grow by registration, and a sentence about each, or "".
    before: the key of another piece before which this one is listed, where one piece takes in keys of others.
    depends: the default follows from other keys. no_effect: read for old configs alone.
    aliases: what people call the key elsewhere. value_aliases: the same for its values.
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
        """The description, with what there is to say of single values."""
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

    schema: keywords of JSON Schema on top of those that follow from the annotation (``minimum=0``,
        ``items={"minimum": 0}``); None takes one away.
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
    """A dataclass field, a tuple, with an object of each of ``pieces()``; their keys stand beside those of the piece.

    So a piece of the block can have keys that are registered elsewhere.
    """
    return dataclasses.field(default_factory=lambda: tuple(piece() for piece in pieces()), metadata={_FROM: pieces})


def other_pieces(piece: type) -> dict[str, tuple[type, ...]]:
    """The fields made with :func:`keys_from`, and the dataclasses of each."""
    fields = dataclasses.fields(piece)
    return {field.name: tuple(field.metadata[_FROM]()) for field in fields if _FROM in field.metadata}


def keys_of(piece: type) -> tuple[Key, ...]:
    """The keys of a dataclass in the order of its fields; fields made without :func:`key` are none.

    Raises ConfigError where a registered piece brings a key that is there already.
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
    """The keys, of which some are moved before others."""
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
