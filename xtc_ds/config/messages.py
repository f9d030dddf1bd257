"""Convert an error of ``jsonschema`` to one line that says what is wrong, what was found and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema.exceptions import ValidationError

from xtc_ds.config.json_value import Finding
from xtc_ds.config.locate import Path, show_value
from xtc_ds.config.schema import places, resolve
from xtc_ds.config.suggest import nearest_key, nearest_value

__all__ = ["allowed_text", "to_findings"]

_WRONG: Mapping[str, str] = {
    "type": "wrong type",
    "enum": "unknown value",
    "minimum": "out of range",
    "maximum": "out of range",
    "exclusiveMinimum": "out of range",
    "minItems": "empty list",
    "minLength": "empty string",
    "pattern": "not of the right form",
}
_TYPES: Mapping[str, str] = {
    "boolean": "true or false",
    "string": "a non-empty string",
    "object": "an object",
    "null": "null",
}


def to_findings(error: ValidationError) -> Iterator[Finding]:
    """The findings for one error: an object with three unknown keys is one error but gives three findings."""
    path: Path = tuple(error.absolute_path)
    found: Any = error.instance
    node: Any = error.schema
    if error.validator == "additionalProperties":
        yield from _unknown_keys(found, node, path)
    elif error.validator == "required":
        for key in node["required"]:
            if key not in found:
                yield (*path, key), f"missing; allowed: {allowed_text(node['properties'][key])}"
    else:
        wrong = _WRONG.get(str(error.validator), "not allowed")
        if error.validator == "pattern" and "array" in node["type"]:
            wrong = "a plain string is not a list of patterns"
        message = f"{wrong}; found {show_value(found)}; allowed: {allowed_text(node)}"
        yield path, message + _did_you_mean(found, node)


def _unknown_keys(found: dict[str, Any], node: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    valid = list(node["properties"])
    technique = str(path[0]) if path else None
    for key, value in found.items():
        if key not in valid:
            near = nearest_key(key, valid, places(technique))
            hint = f"; did you mean '{near}'?" if near else ""
            yield (*path, key), f"unknown key; found {show_value(value)}; allowed: {', '.join(valid)}{hint}"


def allowed_text(node: Mapping[str, Any]) -> str:
    """The values that a schema allows, in words: ``an integer >= 1, or null``."""
    node = resolve(node)
    if "x-allowed" in node:
        return str(node["x-allowed"])
    if "enum" in node:
        return ", ".join(show_value(value) for value in node["enum"])
    types = node.get("type", "string")
    words = [_type_text(kind, node) for kind in ([types] if isinstance(types, str) else types)]
    return " or ".join(words)


def _type_text(kind: str, node: Mapping[str, Any]) -> str:
    if kind == "array":
        items = allowed_text(node.get("items", {}))
        return f"a list of {items.removeprefix('an ').removeprefix('a ').replace('integer', 'integers')}".replace(
            "non-empty string", "non-empty strings"
        )
    if kind in ("integer", "number"):
        word = "an integer" if kind == "integer" else "a number"
        low = f" >= {node['minimum']}" if "minimum" in node else ""
        low = f" > {node['exclusiveMinimum']}" if "exclusiveMinimum" in node else low
        high = f"{' and' if low else ''} <= {node['maximum']}" if "maximum" in node else ""
        return word + low + high
    return _TYPES[kind]


def _did_you_mean(found: Any, node: Mapping[str, Any]) -> str:
    types = node.get("type", "string")
    kinds = {types} if isinstance(types, str) else set(types)
    guess: str | None = None
    if isinstance(found, str) and "array" in kinds and resolve(node["items"])["type"] == "string":
        guess = '"*"' if found == "all" and "pattern" in node else show_value([found]) if found else None
    elif isinstance(found, str) and "boolean" in kinds and found.lower() in ("true", "false"):
        guess = found.lower()
    elif isinstance(found, str) and kinds & {"integer", "number"}:
        guess = found if found.replace(".", "", 1).isascii() and found.replace(".", "", 1).isdigit() else None
    elif isinstance(found, str) and "enum" in node:
        near = nearest_value(found, [value for value in node["enum"] if isinstance(value, str)])
        guess = show_value(near) if near else None
    elif isinstance(found, int) and not isinstance(found, bool) and "boolean" in kinds and found in (0, 1):
        guess = "true" if found else "false"
    return f"; did you mean {guess}?" if guess else ""
