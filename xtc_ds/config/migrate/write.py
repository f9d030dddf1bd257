"""Write the new config atomically, without overwriting an existing file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from xtc_ds.atomic import write_whole_text
from xtc_ds.errors import ConfigError, Problem

__all__ = ["config_text", "write_config"]


def config_text(config: dict[str, Any]) -> str:
    """The config as the text of a JSON file."""
    text = json.dumps(config, indent=2, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which can be written only as an escape sequence
        text = json.dumps(config, indent=2)
    return text + "\n"


def write_config(config: dict[str, Any], new: str | os.PathLike[str], old: str = "", force: bool = False) -> None:
    """Write ``config`` to ``new``, atomically.

    Raises :class:`~xtc_ds.errors.ConfigError` if ``new`` is the file ``old``, if it exists (unless ``force``), or
    if it cannot be written.
    """
    target = Path(new)
    name = str(target)
    try:
        if old and target.exists() and os.path.exists(old) and target.samefile(old):
            raise ConfigError([Problem(name, "is the old config itself; give the new one another name")])
        if target.is_dir():
            raise ConfigError([Problem(name, "is a folder; give the name of a file")])
        if target.exists() and not force:
            raise ConfigError([Problem(name, "exists already; give another name, or --force to replace it")])
        write_whole_text(target, config_text(config))
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError([Problem(name, f"cannot be written: {reason}")]) from None
