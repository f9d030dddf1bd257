"""Read a DeepSpeed config from any source that DeepSpeed accepts, and split off the block."""

from __future__ import annotations

import base64
import binascii
import copy
import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hjson  # type: ignore[import-untyped]

from xtc_ds.config.locate import BLOCK
from xtc_ds.errors import ConfigError, Problem

__all__ = ["read_config", "source_name", "split_config"]


def read_config(source: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Read a DeepSpeed config: a mapping, a JSON or HJSON file, or JSON in base64.

    Returns a deep copy that the caller owns. Raises :class:`ConfigError` if the file is missing
    or unreadable, is neither JSON nor HJSON (with line and column), holds a key twice, or is not an object.
    """
    if isinstance(source, Mapping):
        return copy.deepcopy(dict(source))
    if not isinstance(source, str | os.PathLike):
        kind = type(source).__name__
        raise ConfigError(f"the config is a {kind}; allowed: a dict, the path of a JSON or HJSON file, JSON in base64")
    name = source_name(source)
    value = _parse(_read_text(os.fsdecode(source)), name)
    if not isinstance(value, dict):
        kind = {"str": "string", "list": "list"}.get(type(value).__name__, "single value")
        raise ConfigError([Problem(name, f'the config is a {kind}; allowed: an object, such as {{"{BLOCK}": ...}}')])
    return value


def split_config(ds_config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Split off the block: (deep copy without ``compression_training``, the block or ``None``).

    A block that is not an object is returned unchanged; the validation refuses it.
    """
    if not isinstance(ds_config, Mapping):
        raise ConfigError(f"the DeepSpeed config is a {type(ds_config).__name__}; allowed: a dict")
    rest = copy.deepcopy(dict(ds_config))
    return rest, rest.pop(BLOCK, None)


def source_name(source: object) -> str:
    """The name of ``source`` in messages: the path of a file, or a few words for other sources."""
    if isinstance(source, str | os.PathLike):
        text = os.fsdecode(source)
        return "base64 config" if _decode_base64(text) is not None and not _exists(text) else text
    return "config"


def _exists(path: str) -> bool:
    try:
        return os.path.exists(path)
    except (OSError, ValueError):
        return False


def _decode_base64(text: str) -> str | None:
    try:
        decoded = base64.b64decode(text, altchars=b"-_", validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    return decoded if decoded.lstrip().startswith("{") else None


def _read_text(source: str) -> str:
    if not _exists(source):
        decoded = _decode_base64(source)
        if decoded is not None:
            return decoded
        raise ConfigError([Problem(_short(source), f"no such config file{_near_file(source)}")])
    try:
        return Path(source).read_text(encoding="utf-8-sig")
    except IsADirectoryError:
        raise ConfigError([Problem(source, "is a folder; allowed: a JSON or HJSON file")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(source, f"is not UTF-8 text (byte {error.start})")]) from None
    except OSError as error:
        raise ConfigError([Problem(source, f"cannot be read: {error.strerror or error}")]) from None


def _short(text: str) -> str:
    shown = text if text.isprintable() else json.dumps(text)
    return shown if len(shown) <= 200 else f"{shown[:196]} ..."


def _near_file(source: str) -> str:
    try:
        path = Path(source)
        names = [item.name for item in path.parent.iterdir() if item.is_file()]
    except (OSError, ValueError):
        return ""
    near = difflib.get_close_matches(path.name, sorted(names), n=1, cutoff=0.6)
    return f"; did you mean '{path.parent / near[0]}'?" if near else ""


class _DuplicateKeyError(Exception):
    """A key that occurs twice in one object; DeepSpeed refuses these as well."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _DuplicateKeyError(key)
        found[key] = value
    return found


def _number(text: str) -> float:
    """A number as HJSON, and therefore DeepSpeed, reads it: 5e8 and 1.0 are integers."""
    value = float(text)
    return int(value) if abs(value) < 1e10 and value == int(value) else value


def _parse(text: str, name: str) -> Any:
    """Try strict JSON first (faster, with better messages), then HJSON with its comments."""
    if not text.strip():
        raise ConfigError([Problem(name, "the file is empty; allowed: a JSON object")])
    try:
        try:
            return json.loads(text, object_pairs_hook=_object, parse_float=_number)
        except ValueError:
            return hjson.loads(text, object_pairs_hook=_object)
    except _DuplicateKeyError as error:
        raise ConfigError([Problem(name, f"the key {json.dumps(str(error))} stands twice in one object")]) from None
    except hjson.HjsonDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ConfigError([Problem(name, f"{where}: neither JSON nor HJSON: {error.msg}")]) from None
    except OverflowError:
        raise ConfigError([Problem(name, "holds a number that is too large for HJSON")]) from None
    except RecursionError:
        raise ConfigError([Problem(name, "is nested too deeply to be read")]) from None
    except ValueError as error:
        raise ConfigError([Problem(name, f"neither JSON nor HJSON: {error}")]) from None
