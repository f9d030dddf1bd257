"""Convert any Python value to plain JSON types, with a finding for everything that is not JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from xtc_ds.config.locate import Path

__all__ = ["Finding", "to_json_value"]

Finding = tuple[Path, str]

_DEEPEST = 32
_LARGEST = 2**63 - 1


def to_json_value(value: object) -> tuple[Any, list[Finding]]:
    """A deep copy of ``value`` in dict, list, str, int, float, bool and None.

    Anything that is not JSON (other types, NaN, infinities, keys that are not strings, infinite nesting) is
    replaced by ``None`` and reported, so that the rest can still be checked.
    """
    findings: list[Finding] = []
    return _copy(value, (), findings), findings


def _copy(value: object, path: Path, findings: list[Finding]) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        if abs(value) <= _LARGEST:
            return int(value)
        findings.append((path, "out of range; found an integer beyond 64 bits; allowed: integers of at most 64 bits"))
        return None
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        findings.append((path, f"not a finite number; found {value}; allowed: a finite number"))
        return None
    if len(path) >= _DEEPEST:
        findings.append((path, f"nested too deeply; allowed: at most {_DEEPEST} levels"))
        return None
    if isinstance(value, Mapping):
        return _copy_mapping(value, path, findings)
    if isinstance(value, list | tuple):
        return [_copy(item, (*path, index), findings) for index, item in enumerate(value)]
    findings.append((path, f"not a JSON value; found a Python {type(value).__name__}; allowed: JSON types"))
    return None


def _copy_mapping(value: Mapping[Any, Any], path: Path, findings: list[Finding]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(key, str):
            found[str(key)] = _copy(item, (*path, str(key)), findings)
        else:
            kind = type(key).__name__
            findings.append(
                ((*path, _shown_key(key)), f"a key that is not a string; found a Python {kind}; allowed: strings")
            )
    return found


def _shown_key(key: object) -> str:
    try:
        return repr(key)
    except Exception:  # a repr that fails, or an integer too long to print, must not hide the finding
        return f"<{type(key).__name__}>"
