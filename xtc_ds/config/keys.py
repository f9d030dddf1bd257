"""The keys of a piece of the block, as the fields of its dataclass describe them.

Schema, documentation, parsing, defaults and migration all read these descriptions; nothing says the same twice.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, Literal

__all__ = ["Key", "Old", "Patterns", "Scope", "UNSAID", "key", "keys_of"]

# Where a key of a group may stand. both: in shared_parameters, and in params, which win; group: beside params.
Scope = Literal["params", "shared", "both", "group"]

UNSAID: Any = object()

_KEY = "xtc_ds.key"


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
        "depends": depends,
        "no_effect": no_effect,
        "old": old,
        "patterns": patterns,
        "aliases": tuple(aliases),
        "value_aliases": value_aliases or {},
    }
    return dataclasses.field(default=default, metadata={_KEY: described})


_KEYS: dict[type, tuple[Key, ...]] = {}


def keys_of(piece: type) -> tuple[Key, ...]:
    """The keys of a dataclass in the order of its fields; fields made without :func:`key` are none."""
    if piece not in _KEYS:
        types = typing.get_type_hints(piece)
        _KEYS[piece] = tuple(
            Key(name=field.name, annotation=types[field.name], default=field.default, **field.metadata[_KEY])
            for field in dataclasses.fields(piece)
            if _KEY in field.metadata
        )
    return _KEYS[piece]
