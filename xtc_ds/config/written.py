"""The effective values of a section or group, and the places where they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from functools import cached_property
from typing import Any

from xtc_ds.config.convert import from_json
from xtc_ds.config.keys import Key, keys_of, other_pieces
from xtc_ds.config.locate import Path, show_value

__all__ = ["Written"]

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, kw_only=True)
class Written:
    """The keys of a section without groups, or those of one group over the shared ones. Their shapes fit the schema.

    piece: the dataclass that describes the keys.
    name: name of the group; None for a section without groups, and for a group formed by the shared keys alone.
    home, own: path and keys of the section, or of a group's ``params``.
    above, shared: path and keys of ``shared_parameters``. beside: the keys beside ``params``.
    enabled: whether the section is on.
    whole: whether the keys of ``beside`` fit the schema, too.
    """

    piece: type
    home: Path
    own: Mapping[str, Any]
    name: str | None = None
    above: Path = ()
    shared: Mapping[str, Any] = field(default_factory=dict)
    beside: Mapping[str, Any] = field(default_factory=dict)
    enabled: bool = True
    whole: bool = True

    def __contains__(self, key: str) -> bool:
        return any(key in level for level in (self.own, self.shared, self.beside))

    def __getitem__(self, key: str) -> Any:
        """The effective value in its annotated type: the written one, else the default, else None."""
        described = self._key(key)
        if key in self:
            return from_json(self.json(key), described.annotation)
        return None if described.default is MISSING else described.default

    def json(self, key: str) -> Any:
        """The effective value as JSON, None if none is written. An object in a group is merged over the shared one."""
        if key in self.own and isinstance(self.own[key], Mapping):
            return {**self.shared.get(key, _NOTHING), **self.own[key]}
        return next((level[key] for level in (self.own, self.beside, self.shared) if key in level), None)

    def shown(self, key: str) -> str:
        """The effective value, for a message."""
        return show_value(self.json(key) if key in self else self[key])

    def place(self, key: str, inner: str | None = None) -> Path:
        """The path of the key that sets the effective value, or that of ``inner`` in the object ``key``."""
        if inner is not None:
            return (*(self.home if inner in self.own.get(key, _NOTHING) else self.above), key, inner)
        if key in self.beside:
            return (*self.home[:-1], key)
        return (*(self.home if key in self.own or not self.above else self.above), key)

    def values(self) -> dict[str, Any]:
        """The written fields in their annotated types, and the objects for fields made by ``keys_from``."""
        others = other_pieces(self.piece)
        taken = {key.name for pieces in others.values() for piece in pieces for key in keys_of(piece)}
        own = {key.name: self[key.name] for key in keys_of(self.piece) if key.name in self and key.name not in taken}
        return own | {field: tuple(self._read(piece) for piece in pieces) for field, pieces in others.items()}

    def _read(self, piece: type) -> Any:
        return piece(**{key.name: self[key.name] for key in keys_of(piece) if key.name in self})

    def default(self, key: str) -> Any:
        """The default of a key."""
        return self._key(key).default

    def _key(self, name: str) -> Key:
        assert name in self._keys, f"{self.piece.__name__} has no key '{name}'"
        return self._keys[name]

    @cached_property
    def _keys(self) -> dict[str, Key]:
        return {key.name: key for key in keys_of(self.piece)}
