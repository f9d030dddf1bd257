"""Sections without groups: settings that always apply, and sections with an ``enabled`` switch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

from xtc_ds.config.json_value import Finding
from xtc_ds.config.keys import keys_of
from xtc_ds.config.locate import Path
from xtc_ds.config.pieces import Piece
from xtc_ds.config.schema_nodes import Node, enabled_node, key_nodes, object_node
from xtc_ds.config.section import Section, Sound
from xtc_ds.config.written import Written

__all__ = ["SettingsSection", "SwitchedSection"]

P = TypeVar("P", bound=Piece)


@dataclass(frozen=True, kw_only=True, eq=False)
class SettingsSection(Section[P], Generic[P]):
    """Settings that always apply; missing keys have their defaults."""

    def schema(self) -> Node:
        """An object with the keys of the piece."""
        return object_node(self.description, key_nodes(keys_of(self.piece)), [self.example], default={})

    def read(self, value: Mapping[str, Any]) -> P:
        """The settings."""
        return cast(P, self.piece.read(_written(self, value)))

    def errors(self, value: dict[str, Any], sound: Sound) -> Iterable[Finding]:
        """Those of the piece."""
        return self.piece.check(_written(self, value)) if sound(self.name) else ()

    def warnings(self, value: dict[str, Any], sound: Sound) -> Iterable[Finding]:
        """Those of the piece."""
        return self.piece.warn(_written(self, value)) if sound(self.name) else ()


@dataclass(frozen=True, kw_only=True, eq=False)
class SwitchedSection(Section[P | None], Generic[P]):
    """A section with keys and a switch ``enabled``; its parsed value is None if it is off.

    must_say: whether ``enabled`` is required if the section is present.
    """

    must_say: bool = False

    switch: ClassVar[Path | None] = ()

    def schema(self) -> Node:
        """An object of ``enabled`` and the keys of the piece."""
        properties = {"enabled": enabled_node(self.title, required=self.must_say), **key_nodes(keys_of(self.piece))}
        required, default = (["enabled"], {"enabled": False}) if self.must_say else ([], {})
        return object_node(self.description, properties, [self.example], required=required, default=default)

    def read(self, value: Mapping[str, Any]) -> P | None:
        """The piece; None if it is off."""
        return cast(P, self.piece.read(_written(self, value))) if self.enabled(value) else None

    def errors(self, value: dict[str, Any], sound: Sound) -> Iterable[Finding]:
        """The errors of the piece, which is told whether it is on."""
        return self.piece.check(_written(self, value)) if sound(self.name) else ()

    def warnings(self, value: dict[str, Any], sound: Sound) -> Iterable[Finding]:
        """The warnings of the piece if it is on."""
        return self.piece.warn(_written(self, value)) if sound(self.name) and self.enabled(value) else ()


def _written(section: Section[Any], value: Mapping[str, Any]) -> Written:
    enabled = section.switch is None or section.enabled(value)
    return Written(piece=section.piece, home=(section.name,), own=value, enabled=enabled)
