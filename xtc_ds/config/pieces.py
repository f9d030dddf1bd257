"""Base classes of the dataclasses that describe sections and groups of the block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from xtc_ds.config.json_value import Finding
from xtc_ds.config.keys import Old, Patterns, key, keys_of, other_pieces
from xtc_ds.config.locate import render_path
from xtc_ds.config.written import Written

__all__ = ["Group", "Piece", "module_patterns"]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A section without groups. Subclasses are frozen dataclasses whose fields are made by ``key``."""

    def __getattr__(self, name: str) -> Any:
        # The keys of the objects from ``keys_from`` are attributes of this object, too.
        for taken in () if name.startswith("_") else other_pieces(type(self)):
            for other in self.__dict__.get(taken, ()):
                if any(key.name == name for key in keys_of(type(other))):
                    return getattr(other, name)
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    @classmethod
    def read(cls, written: Written) -> Self:
        """The object with the written values."""
        return cls(**written.values())

    @classmethod
    def check(cls, written: Written) -> Iterable[Finding]:
        """Findings for keys that are valid individually but contradict each other."""
        return ()

    @classmethod
    def warn(cls, written: Written) -> Iterable[Finding]:
        """Warnings, such as keys without effect, if the section is on."""
        return ()


def module_patterns(of: str = "that the technique takes") -> Any:
    """The key ``modules``; ``of`` describes the modules that ``"*"`` selects."""
    return key(
        f'Regular expressions searched in the full module names; "*" stands for every module {of}. Each expression '
        "must match something, unless the group is optional.",
        ("*",),
        scope="group",
        examples=(("*",), ("attention.self", "intermediate")),
        type=["array", "string"],
        minItems=1,
        pattern="^\\*$",
        allowed='a list of regular expressions such as ["attention.self"], or "*" for all',
        old=Old(),
        patterns=Patterns(),
    )


@dataclass(frozen=True, kw_only=True)
class Group(Piece):
    """One group of modules of a technique. ``path`` is the JSON key path of the group, for messages."""

    name: str
    path: str
    modules: tuple[str, ...] = module_patterns()
    exclude: tuple[str, ...] = key(
        "Regular expressions; a module whose full name matches one of them is left out of the group.",
        (),
        scope="group",
        examples=(("embeddings", "^classifier$"),),
        allowed='a list of regular expressions such as ["embeddings"]',
        patterns=Patterns(star="would leave out every module", example="embeddings"),
        aliases=("ignore", "skip"),
    )
    optional: bool = key(
        "true: the group may match nothing, which is otherwise an error.", False, scope="group", examples=(True,)
    )

    @classmethod
    def read(cls, written: Written) -> Self:
        """The group with its effective values."""
        return cls(**cls.label(written), **written.values())

    @classmethod
    def label(cls, written: Written) -> dict[str, Any]:
        """Name and key path of a group."""
        if written.name is None:
            return {"name": "shared", "path": render_path(written.home)}
        return {"name": written.name, "path": render_path(written.home[:-1])}

    @classmethod
    def implied(cls, shared: Mapping[str, Any]) -> bool:
        """Whether shared keys without any group form a group of their own, over all modules."""
        return False
