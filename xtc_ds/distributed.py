"""Small helpers for code that runs on several ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

from xtc_ds.errors import XtcError

__all__ = ["on_rank_zero", "rank", "world_size"]

T = TypeVar("T")


def rank() -> int:
    """This process's rank; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def on_rank_zero(work: Callable[[], T]) -> T:
    """Run ``work`` on rank 0 while the others wait; returns its result, or raises its error, on all ranks.

    With several ranks, errors other than XtcError are raised as RuntimeError, and all ranks have to call this.
    """
    if world_size() == 1:
        return work()
    outcome: list[object] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = work()
        except XtcError as error:
            outcome[1] = error
        except Exception as error:  # the other ranks must not wait forever
            outcome[1] = RuntimeError(f"rank 0 failed: {error!r}")
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]  # type: ignore[misc]
    return outcome[0]  # type: ignore[return-value]
