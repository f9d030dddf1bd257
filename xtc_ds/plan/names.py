"""Names and true sizes of a model's parts, also where ZeRO-3 has partitioned them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from torch import Tensor, nn

__all__ = ["full_numel", "full_shape", "nearest", "outputs_first"]


def full_shape(parameter: Tensor) -> tuple[int, ...]:
    """The shape of the whole parameter; ``zero.Init`` leaves the tensor itself empty and keeps it in ``ds_shape``."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def full_numel(parameter: Tensor) -> int:
    """The number of elements of the whole parameter."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def outputs_first(module: nn.Module, kind: str) -> tuple[int, ...]:
    """The shape of a layer's weight, (O, I) or (O, I, kH, kW); a Conv1D stores (I, O)."""
    shape = full_shape(module.weight)  # type: ignore[arg-type]
    return shape[::-1] if kind == "Conv1D" else shape


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """The known names most like ``name``, joined by commas; empty if none is like it."""
    names = list(known)
    tails: dict[str, str] = {}
    for candidate in names:
        tails.setdefault(candidate.rpartition(".")[2], candidate)
    found = difflib.get_close_matches(name, names, n=count, cutoff=0.5)
    found += [tails[t] for t in difflib.get_close_matches(name, tails, n=count, cutoff=0.6) if tails[t] not in found]
    containing = [candidate for candidate in names if name and name in candidate and candidate not in found]
    return ", ".join((found + containing)[:count])
