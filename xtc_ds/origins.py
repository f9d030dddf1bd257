"""Where a model comes from, as the Hugging Face hub names it."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented, but not in __all__
from torch import nn

__all__ = ["hub_id", "origins"]


def hub_id(name: object) -> str | None:
    """``name`` where it is the id of a repository on the hub ("user/name") and not a path on this machine."""
    if not isinstance(name, str) or name.count("/") != 1 or Path(name).exists():
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def origins(model: nn.Module, teacher: nn.Module | None) -> dict[str, str]:
    """The hub's ids of what the model was loaded from and of its teacher, where they have one."""
    found = {}
    for key, module in (("base_model", model), ("teacher", teacher)):
        name = hub_id(getattr(getattr(module, "config", None), "_name_or_path", None))
        if name is not None:
            found[key] = name
    return found
