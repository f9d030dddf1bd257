"""Patterns of module names: every one must be a regular expression."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from xtc_ds.config.locate import Path, show_value
from xtc_ds.config.plain import Finding

__all__ = ["check_patterns"]


def check_patterns(group: dict[str, Any], path: Path, sound: Callable[..., bool]) -> Iterator[Finding]:
    """Every pattern of a group, or of shared keys, must be a regular expression (or ``*``, in ``modules``)."""
    for place, pattern in _patterns(group, path):
        modules = "modules" in place[len(path) :]
        if not sound(*place) or not isinstance(pattern, str) or (pattern == "*" and modules):
            continue
        if pattern == "*" and "related_modules" in place:
            what = "would shrink every module"
            yield place, f'{what}; found "*"; allowed: a regular expression such as "self.query"'
        elif pattern == "*":
            what = "would leave out every module"
            yield place, f'{what}; found "*"; allowed: a regular expression such as "embeddings"'
        elif (reason := _regex_fault(pattern)) is not None:
            yield (
                place,
                f"not a regular expression ({reason}); found {show_value(pattern)}; "
                f'allowed: a regular expression such as "attention.self"{_glob_hint(pattern)}',
            )


def _patterns(group: dict[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    """All patterns with their places; ``related_modules`` is a list of lists, or of strings."""
    for key in ("modules", "exclude", "excluded_modules", "related_modules"):
        entries = group.get(key)
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            if isinstance(entry, list):
                yield from (((*path, key, index, inner), pattern) for inner, pattern in enumerate(entry))
            else:
                yield (*path, key, index), entry


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
    """Shell patterns such as ``*.dense`` are a common slip; ``.*`` is what they mean."""
    guess = re.sub(r"(?<![.\])])\*", ".*", pattern)
    usable = guess != pattern and _regex_fault(guess) is None
    return f"; did you mean {show_value(guess)}?" if usable else ""
