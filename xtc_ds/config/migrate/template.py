"""Find placeholders in config templates that a script was meant to fill in."""

from __future__ import annotations

import json
import re

from xtc_ds.errors import ConfigError, Problem

__all__ = ["check_placeholders"]

_VALUE = re.compile(r"""^\s*["']?[\w.\-/ ]+["']?\s*:\s*(?P<value>[^\s"'\[{,#][^,#]*?|\$?\{\{?.*\}\}?)\s*,?\s*$""")
_PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|\$\{?\w+\}?|\{\{.*\}\}|<\w[\w \-]*>")


def check_placeholders(text: str, name: str) -> None:
    """Raise :class:`~xtc_ds.errors.ConfigError` with the line of each placeholder, such as ``FP16_ENABLE``.

    Only unquoted words in the place of a value count, and only if ``text`` is not JSON: HJSON would read them as
    strings.
    """
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        problems = [
            Problem(name, f"line {number}: found the placeholder {found}; fill the template in first")
            for number, line in enumerate(text.splitlines(), 1)
            if (found := _placeholder(line)) is not None
        ]
        if problems:
            raise ConfigError(problems) from None


def _placeholder(line: str) -> str | None:
    match = _VALUE.match(line)
    value = match["value"].strip() if match else ""
    return value if _PLACEHOLDER.fullmatch(value) else None
