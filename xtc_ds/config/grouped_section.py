"""Sections of techniques with groups of modules: ``shared_parameters`` and ``different_groups``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

from xtc_ds.config.json_value import Finding
from xtc_ds.config.keys import Key, Scope, keys_of
from xtc_ds.config.locate import Path, show_value
from xtc_ds.config.patterns import check_patterns
from xtc_ds.config.pieces import Group
from xtc_ds.config.schema_nodes import Node, enabled_node, key_node, key_nodes, object_node, ordered
from xtc_ds.config.section import Section, Sound, sections
from xtc_ds.config.written import Written

__all__ = ["GroupedSection"]

G = TypeVar("G", bound=Group)


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupedSection(Section[tuple[G, ...]], Generic[G]):
    """A technique with groups of modules; the parsed config holds one ``piece`` per group, or none if it is off.

    params_text, group_text, groups_text: schema descriptions of ``params``, of a group, and additional text on groups.
    params_example, group_example: their examples. definition: the name of a group's schema in ``$defs``.
    unread_when_off: if the technique is off, its groups and known keys are not checked, because old configs contain
        them without a meaning.
    """

    group_text: str
    params_text: str
    params_example: Mapping[str, Any]
    group_example: Mapping[str, Any]
    groups_text: str = ""
    definition: str = ""
    unread_when_off: bool = False

    switch: ClassVar[Path | None] = ("shared_parameters",)

    def keys(self, *scopes: Scope) -> list[Key]:
        """The keys of the given scopes."""
        return [key for key in keys_of(self.piece) if key.scope in scopes]

    def schema(self) -> Node:
        """An object of ``shared_parameters`` and ``different_groups``."""
        keys = {"enabled": enabled_node(self.title), **key_nodes(self.keys("shared", "both"))}
        shared = object_node("Keys for all groups of the technique.", keys, [{"enabled": True}], default={})
        text = "Groups of modules by a name of your choice; at least one if the technique is enabled."
        groups = {
            "description": f"{text} {self.groups_text}".rstrip(),
            "type": "object",
            "additionalProperties": {"$ref": f"#/$defs/{self._definition}"},
            "default": {},
            "examples": [self.example["different_groups"]],
        }
        properties = {"shared_parameters": shared, "different_groups": ordered(groups)}
        return object_node(self.description, properties, [self.example], default={})

    def definitions(self) -> Mapping[str, Node]:
        """The schema of one group."""
        keys = self.keys("params", "both")
        params = object_node(
            self.params_text,
            {key.name: key_node(key, inherited=key.scope == "both") for key in keys},
            [self.params_example],
            required=[key.name for key in keys if key.scope == "params" and key.default is MISSING],
        )
        properties = {"params": params, **key_nodes(self.keys("group"))}
        group = object_node(self.group_text, properties, [self.group_example], required=["params"])
        return {self._definition: group}

    def as_read(self, value: Any) -> Any:
        """``value``; without its groups and keys if the technique is off and these are ``unread_when_off``."""
        shared = value.get("shared_parameters", {}) if isinstance(value, dict) else None
        if not self.unread_when_off or not isinstance(shared, dict) or shared.get("enabled", False) is not False:
            return value
        unread = {
            key.name
            for other in sections()
            if isinstance(other, GroupedSection) and other.unread_when_off
            for key in other.keys("shared", "both")
        }
        left = {**value, "shared_parameters": {key: shared[key] for key in shared if key not in unread}}
        if isinstance(value.get("different_groups"), dict):
            left["different_groups"] = {}
        return left

    def read(self, value: Mapping[str, Any]) -> tuple[G, ...]:
        """The groups; none if the technique is off."""
        if not self.enabled(value):
            return ()
        return tuple(cast(G, self.piece.read(written)) for written in self._groups(value))

    def errors(self, value: dict[str, Any], sound: Sound) -> Iterator[Finding]:
        """Invalid patterns, a missing group, and the findings of the piece's ``check``."""
        if not sound(self.name, "shared_parameters") or not isinstance(value.get("different_groups", {}), dict):
            return
        groups, above = value.get("different_groups", {}), (self.name, "shared_parameters")
        yield from check_patterns(self.piece, value.get("shared_parameters"), above, sound)
        if self.enabled(value) and not groups and not self._implied(value):
            what = f"the technique is enabled without any group; found {show_value(groups)}; "
            allowed = 'allowed: at least one group such as {"all": {"params": {...}, "modules": ["*"]}}'
            yield (self.name, "different_groups"), what + allowed
        for name, group in groups.items():
            place: Path = (self.name, "different_groups", name)
            if isinstance(group, dict):
                yield from check_patterns(self.piece, group, place, sound)
                yield from check_patterns(self.piece, group.get("params"), (*place, "params"), sound)
        for written in self._groups(value, sound):
            yield from self.piece.check(written)

    def warnings(self, value: dict[str, Any], sound: Sound) -> Iterator[Finding]:
        """Keys without effect, and the findings of the piece's ``warn``."""
        if not sound(self.name, "shared_parameters") or not self.enabled(value):
            return
        shared = value["shared_parameters"]
        for key in self.keys("shared", "both"):
            if key.no_effect and shared.get(key.name, key.default) != key.default:
                found = show_value(shared[key.name])
                yield (self.name, "shared_parameters", key.name), f"has no effect; found {found}; leave it out"
        for written in self._groups(value, sound):
            if written.whole:
                yield from self.piece.warn(written)

    @property
    def _definition(self) -> str:
        return self.definition or f"{self.name}_group"

    def _implied(self, value: Mapping[str, Any]) -> bool:
        shared, piece = value.get("shared_parameters", {}), cast(type[Group], self.piece)
        return not value.get("different_groups", {}) and piece.implied(shared)

    def _groups(self, value: Mapping[str, Any], sound: Sound = lambda *place: True) -> Iterator[Written]:
        """The groups with valid ``params``; if shared keys form a group of their own, it is included if it is on."""
        shared, above = value.get("shared_parameters", {}), (self.name, "shared_parameters")
        if self._implied(value) and self.enabled(value):
            yield Written(piece=self.piece, home=above, own={}, above=above, shared=shared)
        groups, beside = value.get("different_groups", {}), {key.name for key in self.keys("group")}
        for name, group in groups.items() if isinstance(groups, Mapping) else ():
            place: Path = (self.name, "different_groups", name)
            if isinstance(group, Mapping) and isinstance(group.get("params"), Mapping) and sound(*place, "params"):
                yield Written(
                    piece=self.piece,
                    name=name,
                    home=(*place, "params"),
                    own=group["params"],
                    above=above,
                    shared=shared,
                    beside={key: entry for key, entry in group.items() if key in beside},
                    enabled=self.enabled(value),
                    whole=sound(*place),
                )
