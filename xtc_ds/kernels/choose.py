"""The only function that chooses a kernel; its result also explains the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from xtc_ds.kernels.backend import Backend, Inputs

__all__ = ["Choice", "choose"]

Spec = TypeVar("Spec")
Bound = TypeVar("Bound")


@dataclass(frozen=True)
class Choice(Generic[Spec, Bound]):
    """backend: the chosen one. passed_over: (name, reason) of each preferred backend that refused, in order."""

    backend: Backend[Spec, Bound]
    passed_over: tuple[tuple[str, str], ...]


def choose(backends: Sequence[Backend[Spec, Bound]], spec: Spec, inputs: Inputs) -> Choice[Spec, Bound]:
    """The first of ``backends`` that supports this weight and these inputs on this machine."""
    passed_over: list[tuple[str, str]] = []
    for backend in backends:
        reason = backend.refuses(spec, inputs)
        if reason is None:
            return Choice(backend, tuple(passed_over))
        passed_over.append((backend.name, reason))
    raise AssertionError("the last backend of every operation takes everything")
