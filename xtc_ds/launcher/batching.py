"""Form batches of examples: grouped by length for training, in order for evaluation, split over the ranks.

Terms used below: an example is one row; a micro-batch is what one rank feeds forward at once; a global batch is what
one optimizer step consumes: micro-batch size x accumulation steps x world size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Sampler

from xtc_ds.errors import DataError

__all__ = ["EvalBatch", "LengthGroupedBatchSampler", "eval_batches", "eval_shard"]


class LengthGroupedBatchSampler(Sampler[list[int]]):
    """Yields this rank's micro-batches of an epoch; for ``DataLoader(batch_sampler=...)``.

    An epoch is a permutation drawn from ``seed`` and ``epoch``. Within windows of ``window`` global batches
    the examples are sorted by length, so that a batch holds examples of similar length, and the batches of a
    window are shuffled. The sequence of global batches depends only on the lengths, the seed, the epoch, the
    window and the global batch size: training uses the same batches in the same order for any world size. Each
    batch is split into micro-batches, accumulation step by accumulation step and rank by rank.

    Other epochs and seeds combine the examples differently. Within a single window only examples of equal length
    are permuted; if all lengths differ there, epochs differ only in the order of their batches.

    Every example occurs once in an epoch. If the global batch size does not divide their number, the permutation
    is repeated from its start to fill the last batch (fewer than one global batch of examples occur again), so that
    all ranks make the same number of steps of the same size.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        micro_batch_size: int,
        *,
        accumulation_steps: int = 1,
        world_size: int = 1,
        rank: int = 0,
        seed: int = 42,
        window: int = 32,
    ) -> None:
        if not len(lengths):
            raise DataError("no training examples")
        assert min(micro_batch_size, accumulation_steps, world_size, window) >= 1 and 0 <= rank < world_size
        self._lengths = torch.as_tensor(lengths)
        self._micro = micro_batch_size
        self._accumulation = accumulation_steps
        self._world = world_size
        self._rank = rank
        self._seed = seed
        self._window = window
        self._skip = 0
        self.epoch = 0

    @property
    def global_batch_size(self) -> int:
        """Examples that one optimizer step consumes on all ranks together."""
        return self._micro * self._accumulation * self._world

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in a whole epoch."""
        return math.ceil(len(self._lengths) / self.global_batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration yield this epoch, from its start."""
        self.epoch, self._skip = epoch, 0

    def start_at(self, step: int) -> None:
        """Continue after ``step`` optimizer steps, without loading the batches before.

        Sets the epoch; the next iteration skips the epoch's first batches, later iterations are complete.
        """
        self.epoch, self._skip = divmod(step, self.steps_per_epoch)

    def global_batches(self) -> torch.Tensor:
        """Return the example indices of the whole epoch, [steps_per_epoch, global_batch_size]."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.epoch)
        count, size = len(self._lengths), self.global_batch_size
        order = torch.randperm(count, generator=generator)
        order = order.repeat(math.ceil(self.steps_per_epoch * size / count))[: self.steps_per_epoch * size]
        batches = []
        for examples in torch.split(order, self._window * size):
            by_length = examples[self._lengths[examples].argsort(stable=True)].view(-1, size)
            batches.append(by_length[torch.randperm(len(by_length), generator=generator)])
        return torch.cat(batches)

    def __len__(self) -> int:
        """Micro-batches that the next iteration yields."""
        return (self.steps_per_epoch - self._skip) * self._accumulation

    def __iter__(self) -> Iterator[list[int]]:
        skip, self._skip = self._skip, 0
        parts = self.global_batches()[skip:].view(-1, self._accumulation, self._world, self._micro)
        yield from parts[:, :, self._rank].reshape(-1, self._micro).tolist()


@dataclass(frozen=True, slots=True)
class EvalBatch:
    """Example indices to run forward; only the first ``keep`` of them count."""

    indices: list[int]
    keep: int


def eval_shard(count: int, world_size: int = 1, rank: int = 0) -> range:
    """Return this rank's examples: a contiguous range; each of ``count`` examples belongs to exactly one rank."""
    return range(count * rank // world_size, count * (rank + 1) // world_size)


def eval_batches(count: int, batch_size: int, world_size: int = 1, rank: int = 0) -> list[EvalBatch]:
    """Cut this rank's shard into batches.

    Every rank gets the same number of batches, because under ZeRO-3 each forward is a collective: a rank whose
    shard is used up repeats example 0 with ``keep`` 0.
    """
    shard = list(eval_shard(count, world_size, rank))
    most = max(len(eval_shard(count, world_size, other)) for other in range(world_size))
    batches = []
    for start in range(0, most, batch_size):
        indices = shard[start : start + batch_size]
        batches.append(EvalBatch(indices or [0], len(indices)))
    return batches
