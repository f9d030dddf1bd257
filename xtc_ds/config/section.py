"""The registry of the sections of a ``compression_training`` block.

A technique registers its section in its ``config.py``. Schema, checks, parsing, migration and documentation loop over
the registered sections and do not name any.
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
# Tells whether nothing at, below or above a place violates the schema.
Sound = Callable[..., bool]


@dataclass(frozen=True, kw_only=True, eq=False)
class Section(ABC, Generic[T]):
    """One key of the block. T is the type of its parsed value.

    name: the key. piece: the dataclass of its keys. title: its name in a sentence.
    example: an example value. block_examples: whole blocks that contain it.
    old: whether DeepSpeed's compression library knew the key. aliases: other names for it.
    old_top_level: top-level keys that once had the meaning of this section, and what to do about each.
    migrate: updates an old block in place. migrate_top_level: moves old top-level keys of the config into the block.
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

    # The path of "enabled" below the section; None: the section always applies.
    switch: ClassVar[Path | None] = None

    def of(self, config: CompressionConfig) -> T:
        """This section of a parsed config."""
        return cast(T, config.section(self.name))

    def enabled(self, value: Any) -> bool:
        """Whether the JSON ``value`` of the section enables it; False if that cannot be determined."""
        for part in self.switch or ():
            value = value.get(part) if isinstance(value, Mapping) else None
        return self.switch is not None and isinstance(value, Mapping) and value.get("enabled", False) is True

    def as_read(self, value: Any) -> Any:
        """``value`` without the parts that are never read, and therefore not checked."""
        return value

    def definitions(self) -> Mapping[str, Node]:
        """The ``$defs`` to which the section's schema refers."""
        return {}

    @abstractmethod
    def schema(self) -> Node:
        """The JSON Schema of the section."""

    @abstractmethod
    def read(self, value: Mapping[str, Any]) -> T:
        """Parse the section; ``value`` is checked JSON, an empty object if the section is absent."""

    @abstractmethod
    def errors(self, value: dict[str, Any], sound: Sound) -> Iterable[Finding]:
        """Errors that the schema cannot find; looks only at ``sound`` parts."""

    @abstractmethod
    def warnings(self, value: dict[str, Any], sound: Sound) -> Iterable[Finding]:
        """Warnings for a section that is on; looks only at ``sound`` parts."""


_SECTIONS: dict[str, Section[Any]] = {}


def register_section(section: S) -> S:
    """Add a section to the block and return it."""
    assert section.name not in _SECTIONS, f"section '{section.name}' is registered twice"
    _SECTIONS[section.name] = section
    return section


def sections() -> tuple[Section[Any], ...]:
    """All sections: the built-in ones in the order of their list, then others in the order of registration."""
    import_from_techniques("config")
    others = [name for name in _SECTIONS if name not in BUILT_IN_TECHNIQUES]
    return tuple(_SECTIONS[name] for name in (*BUILT_IN_TECHNIQUES, *others) if name in _SECTIONS)
