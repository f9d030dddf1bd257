"""Suggest names that a user may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["nearest"]


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """The known names most similar to ``name``, joined by commas; an empty string if none is similar."""
    names = list(known)
    tails: dict[str, str] = {}
    for candidate in names:
        tails.setdefault(candidate.rpartition(".")[2], candidate)
    found = difflib.get_close_matches(name, names, n=count, cutoff=0.5)
    found += [tails[t] for t in difflib.get_close_matches(name, tails, n=count, cutoff=0.6) if tails[t] not in found]
    containing = [candidate for candidate in names if name and name in candidate and candidate not in found]
    return ", ".join((found + containing)[:count])
