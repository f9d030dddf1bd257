"""Merge equal problems of many modules into one message."""

from __future__ import annotations

import re
from collections.abc import Iterable

from xtc_ds.errors import Problem

__all__ = ["merge_problems"]

_QUOTED = re.compile(r"'([^']+)'")
_SHOWN = 2


def merge_problems(problems: Iterable[Problem], names: Iterable[str]) -> list[Problem]:
    """Return ``problems`` in order; those that differ only in the first module name they quote are merged into one.

    names: the names of all modules of the model.
    """
    known = set(names)
    merged: dict[tuple[str, str, str], list[str]] = {}
    for problem in problems:
        found = next((match for match in _QUOTED.finditer(problem.message) if match[1] in known), None)
        start, end = found.span() if found else (len(problem.message), len(problem.message))
        members = merged.setdefault((problem.path, problem.message[:start], problem.message[end:]), [])
        if found and found[1] not in members:
            members.append(found[1])
    return [Problem(path, before + _together(members) + after) for (path, before, after), members in merged.items()]


def _together(members: list[str]) -> str:
    if len(members) < 2:
        return "".join(f"'{name}'" for name in members)
    first, *rest = (f"'{name}'" for name in members)
    shown = ", ".join(rest[:_SHOWN]) + (", ..." if len(rest) > _SHOWN else "")
    return f"{first} (and {len(rest)} more: {shown})"
