"""The published contract: ``schema.json`` and small questions about it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["places", "resolve", "schema", "walk_properties"]


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the value of ``compression_training``; a new copy per call."""
    return copy.deepcopy(_loaded())


@cache
def _loaded() -> dict[str, Any]:
    text = resources.files("xtc_ds.config").joinpath("schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def resolve(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """``node`` itself, or what its ``$ref`` into ``$defs`` points at, with the keys beside ``$ref`` on top."""
    if "$ref" not in node:
        return node
    target: Mapping[str, Any] = _loaded()["$defs"][node["$ref"].rpartition("/")[2]]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def walk_properties(node: Mapping[str, Any] | None = None, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All properties as (dotted key path, schema); a name chosen by the user is written ``<group>``."""
    node = resolve(_loaded() if node is None else node)
    for key, child in node.get("properties", {}).items():
        path = f"{prefix}.{key}" if prefix else key
        yield path, resolve(child)
        yield from walk_properties(child, path)
    if isinstance(node.get("additionalProperties"), Mapping):
        yield from walk_properties(node["additionalProperties"], f"{prefix}.<group>")


@cache
def places(technique: str | None) -> Mapping[str, str]:
    """Each key of ``technique`` (or, for ``None``, of exactly one technique) and the place where it belongs."""
    found: dict[str, set[str]] = {}
    for path, _ in walk_properties():
        head, _, rest = path.partition(".")
        if rest and technique in (None, head):
            found.setdefault(path.rpartition(".")[2], set()).add(path)
    return {key: min(paths, key=len) for key, paths in found.items() if technique or len(paths) == 1}
