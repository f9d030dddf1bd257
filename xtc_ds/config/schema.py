"""The JSON Schema of the block, assembled from the registered sections.

``schema.json`` in this folder is a copy of the schema of the built-in sections; a test compares them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator

from xtc_ds.config.keys import Key, keys_of
from xtc_ds.config.schema_nodes import Node
from xtc_ds.config.section import Section, sections

__all__ = ["all_keys", "assemble", "places", "resolve", "schema", "validator", "walk_properties"]

Choices = tuple[tuple[Any, ...], ...]


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) for the value of ``compression_training``; a new copy per call."""
    return copy.deepcopy(_assembled(*_registered()))


def assemble(of: tuple[Section[Any], ...]) -> Node:
    """The JSON Schema of a block that has the sections ``of``."""
    definitions: dict[str, Node] = {}
    for section in of:
        definitions |= section.definitions()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:xtc-ds:compression_training:1",
        "title": "compression_training",
        "description": "The value of the key compression_training in a DeepSpeed config.",
        "type": "object",
        "additionalProperties": False,
        "properties": {section.name: section.schema() for section in of},
        "examples": [example for section in of for example in section.block_examples],
        "$defs": definitions,
    }


def all_keys(of: tuple[Section[Any], ...] | None = None) -> Iterator[tuple[Section[Any], Key]]:
    """Every key of every section, except keys of nested objects."""
    for section in sections() if of is None else of:
        for key in keys_of(section.piece):
            yield section, key


def validator() -> Draft202012Validator:
    """A validator of the whole block."""
    return _validator(*_registered())


def resolve(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """``node`` itself, or the target of its ``$ref`` into ``$defs``, overridden by the keywords beside ``$ref``."""
    if "$ref" not in node:
        return node
    target: Mapping[str, Any] = _assembled(*_registered())["$defs"][node["$ref"].rpartition("/")[2]]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def walk_properties(node: Mapping[str, Any] | None = None, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All properties as (dotted key path, schema); a name chosen by the user is written ``<group>``."""
    node = resolve(_assembled(*_registered()) if node is None else node)
    for key, child in node.get("properties", {}).items():
        path = f"{prefix}.{key}" if prefix else key
        yield path, resolve(child)
        yield from walk_properties(child, path)
    if isinstance(node.get("additionalProperties"), Mapping):
        yield from walk_properties(node["additionalProperties"], f"{prefix}.<group>")


def places(technique: str | None) -> Mapping[str, str]:
    """Map each key of ``technique`` (for ``None``: each key of exactly one technique) to the place where it belongs."""
    return _places(technique, *_registered())


def _registered() -> tuple[tuple[Section[Any], ...], Choices]:
    """The inputs of the schema: the sections, and all keys and values that can be added by registration."""
    return sections(), tuple((key.name, *(key.choices() if key.choices is not None else ())) for _, key in all_keys())


@lru_cache(maxsize=4)
def _assembled(of: tuple[Section[Any], ...], choices: Choices) -> Node:
    return assemble(of)


@lru_cache(maxsize=4)
def _validator(of: tuple[Section[Any], ...], choices: Choices) -> Draft202012Validator:
    return Draft202012Validator(_assembled(of, choices))


@lru_cache(maxsize=64)
def _places(technique: str | None, of: tuple[Section[Any], ...], choices: Choices) -> Mapping[str, str]:
    found: dict[str, set[str]] = {}
    for path, _ in walk_properties():
        head, _, rest = path.partition(".")
        if rest and technique in (None, head):
            found.setdefault(path.rpartition(".")[2], set()).add(path)
    return {key: min(paths, key=len) for key, paths in found.items() if technique or len(paths) == 1}
