"""Where a model comes from, as the Hugging Face hub names it."""

from __future__ import annotations

import re
from pathlib import Path

from torch import nn

__all__ = ["hub_id", "origins"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def hub_id(name: object) -> str | None:
    """``name`` where it is the id of a repository on the hub ("user/name") and not a path on this machine."""
    is_id = isinstance(name, str) and _HUB_ID.fullmatch(name) is not None and not Path(name).exists()
    return str(name) if is_id else None


def origins(model: nn.Module, teacher: nn.Module | None) -> dict[str, str]:
    """The hub's ids of what the model was loaded from and of its teacher, where they have one."""
    found = {}
    for key, module in (("base_model", model), ("teacher", teacher)):
        name = hub_id(getattr(getattr(module, "config", None), "_name_or_path", None))
        if name is not None:
            found[key] = name
    return found
