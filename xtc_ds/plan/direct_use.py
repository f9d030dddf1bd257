"""Finding parents that use a child's weight without calling the child."""

from __future__ import annotations

import functools
import inspect
import re

from torch import nn

__all__ = ["reads_weight_of"]

# These run while the model is built: what they do to a weight is over when it is compressed.
_BUILDING = {"__init__", "_init_weights", "init_weights", "reset_parameters", "tie_weights", "_tie_weights"}


def reads_weight_of(parent: nn.Module, child: str) -> str | None:
    """``Class.method`` of the parent's code that reads ``self.<child>.weight``; None if none is seen.

    Such code misses the quantization, or takes the packed bytes for numbers: T5's feed-forward casts its
    states to the dtype of ``wo.weight``, DeBERTa's encoder never calls ``rel_embeddings``. Code that cannot be
    read, or that reaches the weight in another way, is not seen.
    """
    pattern = rf"\bself\.{re.escape(child)}\.weight\b(?!\s*=[^=])"
    for name, source in _methods(type(parent)):  # type: ignore[arg-type]
        if re.search(pattern, source):
            return name
    return None


def _builds(name: str) -> bool:
    """Also asked of a function's own name: ``deepspeed.zero.Init`` leaves a class's ``__init__`` as ``_old_init``."""
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
