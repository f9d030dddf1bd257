"""Suggestions for typos: the valid key or value closest to the written one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from xtc_ds.config.schema import all_keys

__all__ = ["nearest", "nearest_key", "nearest_value"]

# Abbreviations of dtypes, for all keys.
_DTYPES: Mapping[str, str] = {"fp32": "float32", "fp16": "float16", "half": "float16", "bf16": "bfloat16"}


def _fold(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "").replace(" ", "")


def nearest(word: str, valid: Iterable[str], cutoff: float = 0.7) -> str | None:
    """The entry of ``valid`` closest to ``word``, ignoring case, ``-`` and ``_``; ``None`` if none is close."""
    folded: dict[str, str] = {}
    for entry in valid:
        folded.setdefault(_fold(entry), entry)
    near = difflib.get_close_matches(_fold(word)[:200], list(folded), n=1, cutoff=cutoff)
    return folded[near[0]] if near else None


def nearest_key(word: str, valid: list[str], elsewhere: Mapping[str, str]) -> str | None:
    """The key that was probably meant by the unknown key ``word``.

    ``valid`` are the keys allowed at this place; ``elsewhere`` maps each key that the schema knows
    in this technique to the dotted place where it belongs (for keys put one level too high or too low).
    """
    found = nearest(word, valid, cutoff=0.8)
    if found is None and word in elsewhere:
        return elsewhere[word]
    if found is None:
        found = nearest(word, valid)
    if found is None:
        found = next((key for key in valid if word.lower() in _aliases().get(key, ())), None)
    if found is None:
        near = nearest(word, elsewhere, cutoff=0.8)
        found = elsewhere[near] if near else None
    return found


def nearest_value(word: str, valid: list[str]) -> str | None:
    """The entry of an enumeration that was probably meant: another name, an abbreviation or a misspelling."""
    aliases = {**_DTYPES, **{name: value for _, key in all_keys() for name, value in key.value_aliases.items()}}
    alias = aliases.get(word.lower())
    if alias in valid:
        return alias
    short = _fold(word)
    related = [entry for entry in valid if len(short) >= 3 and (_fold(entry).startswith(short) or entry in short)]
    return related[0] if len(related) == 1 else nearest(word, valid)


def _aliases() -> dict[str, set[str]]:
    """Other names for each section and key; used if no key has a similar spelling."""
    found: dict[str, set[str]] = {"different_groups": {"groups"}}
    for section, key in all_keys():
        found.setdefault(section.name, set()).update(section.aliases)
        found.setdefault(key.name, set()).update(key.aliases)
    return found
