"""Build the JSON Schema of single keys and of the objects that hold them."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING
from typing import Any, Literal

from xtc_ds.config.convert import to_json, without_none
from xtc_ds.config.keys import Key, keys_of

__all__ = ["Node", "enabled_node", "key_node", "key_nodes", "object_node", "ordered"]

Node = dict[str, Any]

# The usual order of keywords: the meaning of a key before its allowed values.
_ORDER = (
    "description", "type", "enum", "properties", "items", "minimum", "exclusiveMinimum", "maximum", "minItems",
    "minLength", "pattern", "additionalProperties", "required", "x-allowed", "default", "examples", "x-inherited",
    "x-depends",
)  # fmt: skip
_TYPES = {bool: "boolean", int: "integer", float: "number"}
_INHERITED = "Overrides the key of the same name in shared_parameters for this group. "


def key_nodes(keys: Iterable[Key], inherited: bool = False) -> dict[str, Node]:
    """Map the names of keys to their schemas."""
    return {key.name: key_node(key, inherited) for key in keys}


def key_node(key: Key, inherited: bool = False) -> Node:
    """The schema of one key.

    inherited: the key is in a group and overrides the shared one; there it has no default of its own.
    """
    node = _type_node(key.annotation, inherited)
    if key.choices is not None:
        node = {"type": "string", "enum": list(key.choices())}
    node = _merged(node, key.schema)
    node["description"] = (_INHERITED if inherited else "") + key.full_text()
    node["examples"] = [to_json(example) for example in key.examples]
    if key.allowed is not None:
        node["x-allowed"] = key.allowed
    if inherited:
        node["x-inherited"] = True
    elif key.depends:
        node["x-depends"] = True
    elif key.default is not MISSING:
        node["default"] = to_json(key.default)
    return ordered(node)


def enabled_node(title: str, required: bool = False) -> Node:
    """The schema of the ``enabled`` switch of ``title``."""
    node: Node = {"description": f"Switches {title} on.", "type": "boolean", "examples": [True]}
    return ordered(node if required else node | {"default": False})


def object_node(
    description: str,
    properties: Mapping[str, Node],
    examples: Iterable[Any],
    *,
    required: Iterable[str] = (),
    **more: Any,
) -> Node:
    """The schema of an object that allows only the keys in ``properties``."""
    node = {
        "description": description,
        "type": "object",
        "properties": dict(properties),
        "additionalProperties": False,
        "examples": list(examples),
        **more,
    }
    return ordered(node | ({"required": list(required)} if required else {}))


def ordered(node: Node) -> Node:
    """The schema with its keywords in the usual order."""
    return {word: node[word] for word in (*_ORDER, *(word for word in node if word not in _ORDER)) if word in node}


def _type_node(annotation: Any, inherited: bool) -> Node:
    """The part of the schema that follows from the annotation."""
    inner = without_none(annotation)
    if inner is type(None):
        return {"type": "null"}
    if typing.get_origin(inner) is Literal:
        node: Node = {"type": "string", "enum": list(typing.get_args(inner))}
    elif typing.get_origin(inner) is tuple:
        node = {"type": "array", "items": _type_node(typing.get_args(inner)[0], inherited)}
    elif dataclasses.is_dataclass(inner):
        properties = key_nodes(keys_of(typing.cast(type, inner)), inherited)
        node = {"type": "object", "properties": properties, "additionalProperties": False}
    else:
        node = {"type": _TYPES[inner]} if inner in _TYPES else {"type": "string", "minLength": 1}
    if inner is not annotation:
        node["type"] = [node["type"], "null"]
        if "enum" in node:
            node["enum"].append(None)
    return node


def _merged(node: Node, more: Mapping[str, Any]) -> Node:
    """``node`` updated by ``more``; schemas of ``items`` are merged likewise, and None removes a keyword."""
    result = dict(node)
    for word, value in more.items():
        if value is None:
            result.pop(word, None)
        elif word == "items":
            result[word] = ordered(_merged(node["items"], value))
        else:
            result[word] = value
    return result
