"""Parameters partitioned by ZeRO-3: their full sizes, and context managers that gather them temporarily.

Without ZeRO-3 the context managers are no-ops. All ranks must enter them in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor

__all__ = ["full_numel", "full_shape", "gathered", "is_partitioned", "modifiable"]


def full_shape(parameter: Tensor) -> tuple[int, ...]:
    """The shape of the whole parameter; ``zero.Init`` leaves the tensor empty and stores its shape in ``ds_shape``."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def full_numel(parameter: Tensor) -> int:
    """The number of elements of the whole parameter."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def is_partitioned(tensor: Tensor) -> bool:
    """Whether ZeRO-3 (or ``zero.Init``) manages the parameter."""
    return hasattr(tensor, "ds_id")


@contextmanager
def gathered(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Gather whole parameters for reading; writes are discarded."""
    with _gather(tensors, None):
        yield


@contextmanager
def modifiable(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Gather whole parameters for reading and writing; the values of rank 0 are sent to all ranks at the end."""
    with _gather(tensors, 0):
        yield


@contextmanager
def _gather(tensors: Iterable[Tensor], modifier_rank: int | None) -> Iterator[None]:
    partitioned = [tensor for tensor in tensors if is_partitioned(tensor)]
    if not partitioned:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(partitioned, modifier_rank=modifier_rank):
        yield
