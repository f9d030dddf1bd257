"""The registry of the pieces that a ``compression_training`` block is made of.

A technique registers its piece where it is defined, in its ``config.py``; schema, checks, parsing, migration and
documentation loop over what is registered and name none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from xtc_ds.config.json_value import Finding
from xtc_ds.config.locate import Path
from xtc_ds.config.pieces import Piece
from xtc_ds.config.schema_nodes import Node
from xtc_ds.extensions import BUILT_IN_TECHNIQUES, import_from_techniques

if TYPE_CHECKING:
    from xtc_ds.config.compression_config import CompressionConfig
    from xtc_ds.config.migrate.note import Note

__all__ = ["Section", "Sound", "register_section", "sections"]

T = TypeVar("T")
S = TypeVar("S", bound="Section[Any]")
# Whether nothing at, below or above a place breaks the schema.
Sound = Callable[..., bool]


@dataclass(frozen=True, kw_only=True, eq=False)
class Section(ABC, Generic[T]):
    """One key of the block. T is what the parsed config holds for it.

    name: the key. piece: the dataclass of its keys. title: what it is called in a sentence.
    example: a value of the key. block_examples: whole blocks that show it among others.
    old: whether DeepSpeed's compression library knew the key. aliases: what people call it elsewhere.
    old_top_level: keys beside the block that once meant this section, and what to do about each.
    migrate: mends an old block in place. migrate_top_level: moves old keys from beside the block into it, both given.
    """

    name: str
    piece: type[Piece]
    title: str
    description: str
    example: Mapping[str, Any]
    block_examples: tuple[Mapping[str, Any], ...] = ()
    old: bool = False
    aliases: tuple[str, ...] = ()
    old_top_level: Mapping[str, str] = field(default_factory=dict)
    migrate: Callable[[dict[str, Any]], list[Note]] | None = None
    migrate_top_level: Callable[[dict[str, Any], dict[str, Any]], list[Note]] | None = None

    # Where, below the section, "enabled" stands; None: the section is always in force.
    switch: ClassVar[Path | None] = None

    def of(self, config: CompressionConfig) -> T:
        """The section of a parsed config."""
        return cast(T, config.section(self.name))

    def enabled(self, value: Any) -> bool:
        """Whether the JSON ``value`` of the section switches it on; False where it cannot be told."""
        for part in self.switch or ():
            value = value.get(part) if isinstance(value, Mapping) else None
        return self.switch is not None and isinstance(value, Mapping) and value.get("enabled", False) is True

    def as_read(self, value: Any) -> Any:
        """``value`` without what nobody reads, and so nobody checks."""
        return value

    def definitions(self) -> Mapping[str, Node]:
        """What the schema of the section refers to by name."""
        return {}

    @abstractmethod
    def schema(self) -> Node:
        """The JSON Schema of the section."""

    @abstractmethod
    def read(self, value: Mapping[str, Any]) -> T:
        """The parsed section; ``value`` is checked JSON, empty where the section is absent."""

    @abstractmethod
    def errors(self, value: dict[str, Any], sound: Sound) -> Iterable[Finding]:
        """What is wrong beyond the shape; only what is ``sound`` is looked at."""

    @abstractmethod
    def warnings(self, value: dict[str, Any], sound: Sound) -> Iterable[Finding]:
        """What is remarkable in a section that is on; only what is ``sound`` is looked at."""


_SECTIONS: dict[str, Section[Any]] = {}


def register_section(section: S) -> S:
    """Add a section to the block and return it."""
    assert section.name not in _SECTIONS, f"section '{section.name}' is registered twice"
    _SECTIONS[section.name] = section
    return section


def sections() -> tuple[Section[Any], ...]:
    """All sections: the built-in ones in the order of their list, then those of others as they came."""
    import_from_techniques("config")
    others = [name for name in _SECTIONS if name not in BUILT_IN_TECHNIQUES]
    return tuple(_SECTIONS[name] for name in (*BUILT_IN_TECHNIQUES, *others) if name in _SECTIONS)
