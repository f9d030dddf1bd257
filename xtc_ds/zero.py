"""ZeRO-3 partitions parameters over the ranks: their true sizes, and contexts that make them whole for a moment.

Without ZeRO-3 the contexts do nothing. All ranks must enter them in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor

__all__ = ["full_numel", "full_shape", "gathered", "is_partitioned", "modifiable"]


def full_shape(parameter: Tensor) -> tuple[int, ...]:
    """The shape of the whole parameter; ``zero.Init`` leaves the tensor itself empty and keeps it in ``ds_shape``."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def full_numel(parameter: Tensor) -> int:
    """The number of elements of the whole parameter."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def is_partitioned(tensor: Tensor) -> bool:
    """Whether ZeRO-3 (or ``zero.Init``) manages the parameter."""
    return hasattr(tensor, "ds_id")


@contextmanager
def gathered(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Read whole parameters inside; writes are lost."""
    with _gather(tensors, None):
        yield


@contextmanager
def modifiable(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Read and write whole parameters inside; what rank 0 wrote is sent to all."""
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
