"""Find the Hugging Face hub ids from which models were loaded."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented, but not in __all__
from torch import nn

__all__ = ["hub_id", "origins"]


def hub_id(name: object) -> str | None:
    """``name`` if it is the id of a repository on the hub ("user/name") and not an existing local path; else None."""
    if not isinstance(name, str) or name.count("/") != 1 or Path(name).exists():
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def origins(model: nn.Module, teacher: nn.Module | None) -> dict[str, str]:
    """The hub ids of the model ("base_model") and of its teacher ("teacher"); left out if there is none."""
    found = {}
    for key, module in (("base_model", model), ("teacher", teacher)):
        name = hub_id(getattr(getattr(module, "config", None), "_name_or_path", None))
        if name is not None:
            found[key] = name
    return found
