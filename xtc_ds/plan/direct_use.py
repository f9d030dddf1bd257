"""Find parents that use a child's weight without calling the child."""

from __future__ import annotations

import functools
import inspect
import re

from torch import nn

__all__ = ["reads_weight_of"]

# These methods run while the model is built, before it is compressed, so they may use a weight directly.
_BUILDING = {"__init__", "_init_weights", "init_weights", "reset_parameters", "tie_weights", "_tie_weights"}


def reads_weight_of(parent: nn.Module, child: str) -> str | None:
    """``Class.method`` of the parent's code that reads ``self.<child>.weight``; None if none is found.

    Such code would use the unquantized weight, or interpret the packed bytes as numbers: T5's feed-forward layer casts
    its states to the dtype of ``wo.weight``, DeBERTa's encoder never calls ``rel_embeddings``. Methods whose source is
    not available, or that access the weight in another way, are not detected.
    """
    pattern = rf"\bself\.{re.escape(child)}\.weight\b(?!\s*=[^=])"
    for name, source in _methods(type(parent)):  # type: ignore[arg-type]
        if re.search(pattern, source):
            return name
    return None


def _builds(name: str) -> bool:
    """Whether a method only runs while the model is built.

    Also called with a function's ``__name__``: ``deepspeed.zero.Init`` keeps a class's ``__init__`` as ``_old_init``.
    """
    return name in _BUILDING or name.startswith("resize_")


@functools.cache
def _methods(kind: type[nn.Module]) -> tuple[tuple[str, str], ...]:
    found: dict[str, tuple[str, str]] = {}
    for owner in kind.__mro__:
        if owner is nn.Module:
            break
        for name, member in vars(owner).items():
            if name in found or not inspect.isfunction(member) or _builds(name) or _builds(member.__name__):
                continue
            try:
                found[name] = (f"{owner.__name__}.{name}", inspect.getsource(member))
            except (OSError, TypeError):
                continue
    return tuple(found.values())
