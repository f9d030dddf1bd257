"""Check patterns of module names, which must be regular expressions."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from xtc_ds.config.json_value import Finding
from xtc_ds.config.keys import Patterns, keys_of
from xtc_ds.config.locate import Path, show_value

__all__ = ["check_patterns"]


def check_patterns(piece: type, holder: Any, path: Path, sound: Callable[..., bool]) -> Iterator[Finding]:
    """Findings for patterns in ``holder`` that are neither a regular expression nor an allowed ``*``."""
    for key in keys_of(piece) if isinstance(holder, Mapping) else ():
        if key.patterns is not None:
            for place, pattern in _patterns(holder.get(key.name), (*path, key.name)):
                if sound(*place) and isinstance(pattern, str):
                    yield from _check(pattern, place, key.patterns)


def _check(pattern: str, place: Path, allowed: Patterns) -> Iterator[Finding]:
    example = f"allowed: a regular expression such as {show_value(allowed.example)}"
    if pattern == "*":
        if allowed.star is not None:
            yield place, f'{allowed.star}; found "*"; {example}'
    elif (reason := _regex_fault(pattern)) is not None:
        example = 'allowed: a regular expression such as "attention.self"'
        yield place, f"not a regular expression ({reason}); found {show_value(pattern)}; {example}{_glob_hint(pattern)}"


def _patterns(entries: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """All patterns with their paths, in a list of patterns or in lists of them."""
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, list):
            yield from (((*path, index, inner), pattern) for inner, pattern in enumerate(entry))
        else:
            yield (*path, index), entry


def _regex_fault(pattern: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except re.error as error:
        return error.msg
    except (OverflowError, RecursionError, ValueError) as error:
        return str(error) or type(error).__name__
    return None


def _glob_hint(pattern: str) -> str:
    """A hint for shell patterns such as ``*.dense``, a common mistake; ``.*`` is what they mean."""
    guess = re.sub(r"(?<![.\])])\*", ".*", pattern)
    usable = guess != pattern and _regex_fault(guess) is None
    return f"; did you mean {show_value(guess)}?" if usable else ""
