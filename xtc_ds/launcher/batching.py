"""From texts to batches: tokenise once, group by length, split over ranks, pad to the longest.

Words used below: an example is one row; a micro-batch is what one rank feeds forward at once; a global
batch is what one optimizer step consumes: micro-batch size x accumulation steps x world size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from xtc_ds.errors import DataError
from xtc_ds.launcher.tasks import Split

__all__ = [
    "EncodedDataset",
    "EvalBatch",
    "LengthGroupedBatchSampler",
    "PadCollator",
    "encode",
    "eval_batches",
    "eval_shard",
]

_CHUNK = 4096


class EncodedDataset(Dataset[dict[str, Any]]):
    """Tokenised examples: ``input_ids`` (and ``token_type_ids`` where the tokenizer has them) and ``labels``."""

    def __init__(self, columns: dict[str, list[list[int]]], labels: Sequence[float]) -> None:
        assert all(len(column) == len(labels) for column in columns.values())
        self.columns = columns
        self.labels = labels

    @property
    def lengths(self) -> list[int]:
        """Number of tokens of every example."""
        return [len(ids) for ids in self.columns["input_ids"]]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Any]:
        example: dict[str, Any] = {name: column[row] for name, column in self.columns.items()}
        example["labels"] = self.labels[row]
        return example


def encode(tokenizer: Any, split: Split, max_seq_length: int = 128) -> EncodedDataset:
    """Tokenise a split, cutting to ``max_seq_length`` tokens (and never over the tokenizer's own limit).

    A pair too long loses tokens of its longer text first. Raises ``DataError`` when no token of text would
    fit, or a text has no tokens.
    """
    pair = split.texts_b is not None
    limit = min(max_seq_length, tokenizer.model_max_length)
    least = tokenizer.num_special_tokens_to_add(pair=pair) + 1 + pair
    if limit < least:
        raise DataError(f"max_seq_length must be at least {least} for this tokenizer; found {limit}")
    columns: dict[str, list[list[int]]] = {}
    for start in range(0, len(split), _CHUNK):
        rows = slice(start, start + _CHUNK)
        texts_b = None if split.texts_b is None else split.texts_b[rows]
        chunk = tokenizer(split.texts_a[rows], texts_b, truncation=True, max_length=limit, padding=False)
        for name in ("input_ids", "token_type_ids"):
            if name in chunk:
                columns.setdefault(name, []).extend(chunk[name])
    if not columns:
        raise DataError("no examples to tokenise")
    empty = next((row for row, ids in enumerate(columns["input_ids"]) if not ids), None)
    if empty is not None:
        raise DataError(f"example {empty} has no tokens: {split.texts_a[empty]!r}")
    return EncodedDataset(columns, split.labels)


class PadCollator:
    """Turns examples into a batch of tensors [B, L], L the longest of them.

    Gives ``input_ids``, ``attention_mask``, ``token_type_ids`` if there are any, and ``labels`` [B]: int64,
    or float32 with ``is_regression``. L is rounded up to ``pad_to_multiple_of``. Pads on the tokenizer's
    side. Raises ``DataError`` for a tokenizer without a padding token.
    """

    def __init__(self, tokenizer: Any, *, is_regression: bool = False, pad_to_multiple_of: int | None = None) -> None:
        if tokenizer.pad_token_id is None:
            raise DataError("the tokenizer has no padding token; set tokenizer.pad_token, to its eos_token for example")
        self._fill = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
        self._left = tokenizer.padding_side == "left"
        self._label_dtype = torch.float32 if is_regression else torch.int64
        self._multiple = pad_to_multiple_of or 1

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        lengths = [len(example["input_ids"]) for example in examples]
        width = math.ceil(max(lengths) / self._multiple) * self._multiple
        batch = {
            name: self._pad([example[name] for example in examples], width, fill)
            for name, fill in self._fill.items()
            if name in examples[0]
        }
        batch["attention_mask"] = self._pad([[1] * length for length in lengths], width, 0)
        batch["labels"] = torch.tensor([example["labels"] for example in examples], dtype=self._label_dtype)
        return batch

    def _pad(self, rows: list[list[int]], width: int, fill: int) -> torch.Tensor:
        padded = torch.full((len(rows), width), fill, dtype=torch.int64)
        for row, ids in enumerate(rows):
            padded[row, width - len(ids) if self._left else 0 :][: len(ids)] = torch.tensor(ids, dtype=torch.int64)
        return padded


class LengthGroupedBatchSampler(Sampler[list[int]]):
    """Yields this rank's micro-batches of an epoch; for ``DataLoader(batch_sampler=...)``.

    An epoch is a permutation drawn from ``seed`` and ``epoch``. Within windows of ``window`` global batches
    the examples are sorted by length, so that a batch holds examples of like length, and the batches of a
    window are shuffled. The sequence of global batches depends on nothing else than the lengths, the seed,
    the epoch, the window and the global batch size: any world size trains on the same batches in the same
    order. Each is cut into micro-batches, accumulation step by accumulation step and rank by rank.

    Every example occurs once in an epoch. When the global batch size does not divide their number, the
    permutation is continued from its own start until it does (fewer than one global batch of examples
    occur again), so that all ranks make equally many, equally large steps.
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
        """Choose the epoch that the next iteration yields, from its start."""
        self.epoch, self._skip = epoch, 0

    def start_at(self, step: int) -> None:
        """Go to where training stands after ``step`` optimizer steps, without loading what lies before.

        Sets the epoch; the next iteration leaves out its first batches, later ones are whole.
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
    """Return this rank's examples: contiguous, and over all ranks each of ``count`` exactly once."""
    return range(count * rank // world_size, count * (rank + 1) // world_size)


def eval_batches(count: int, batch_size: int, world_size: int = 1, rank: int = 0) -> list[EvalBatch]:
    """Cut this rank's shard into batches.

    Every rank gets equally many, because under ZeRO-3 each forward is a collective: a rank whose shard is
    used up repeats example 0 with ``keep`` 0.
    """
    shard = list(eval_shard(count, world_size, rank))
    most = max(len(eval_shard(count, world_size, other)) for other in range(world_size))
    batches = []
    for start in range(0, most, batch_size):
        indices = shard[start : start + batch_size]
        batches.append(EvalBatch(indices or [0], len(indices)))
    return batches
