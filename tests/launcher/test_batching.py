"""Batches: every example once, the same for any number of ranks, and padding that changes nothing."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import chain, islice
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from xtc_ds.errors import DataError
from xtc_ds.launcher import Split, encode, get_task
from xtc_ds.launcher.batching import LengthGroupedBatchSampler, eval_batches, eval_shard

WORLDS = st.integers(1, 4)
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=200)


def samplers(lengths: list[int], micro: int, world: int, **more: int) -> list[LengthGroupedBatchSampler]:
    return [
        LengthGroupedBatchSampler(lengths, micro, world_size=world, rank=rank, window=3, **more)
        for rank in range(world)
    ]


@given(LENGTHS, st.integers(1, 5), st.integers(1, 3), WORLDS, st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_every_example_once_and_equal_steps(
    lengths: list[int], micro: int, accumulation: int, world: int, epoch: int
) -> None:
    ranks = samplers(lengths, micro, world, accumulation_steps=accumulation)
    for rank in ranks:
        rank.set_epoch(epoch)
    batches = [list(rank) for rank in ranks]
    steps = -(-len(lengths) // (micro * accumulation * world))
    assert {len(mine) for mine in batches} == {steps * accumulation} == {len(rank) for rank in ranks}
    assert {len(batch) for mine in batches for batch in mine} == {micro}
    counts = Counter(chain.from_iterable(chain.from_iterable(batches)))
    assert set(counts) == set(range(len(lengths)))
    # Only filling up the last global batch makes an example occur again, and all of them evenly.
    assert sum(counts.values()) == steps * micro * accumulation * world
    assert max(counts.values()) - min(counts.values()) <= 1


@given(LENGTHS, st.integers(1, 4), st.integers(0, 2), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_global_batches_are_the_same_for_any_world(lengths: list[int], micro: int, epoch: int, seed: int) -> None:
    def micro_batches(world: int) -> list[list[int]]:
        ranks = samplers(lengths, micro, world, accumulation_steps=4 // world, seed=seed)
        for rank in ranks:
            rank.set_epoch(epoch)
        return list(chain.from_iterable(zip(*ranks, strict=True)))

    alone = micro_batches(1)
    assert micro_batches(2) == micro_batches(4) == alone == micro_batches(1)


@given(LENGTHS, st.integers(1, 4), st.integers(1, 3), WORLDS, st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_starting_at_a_step_continues_the_run(
    lengths: list[int], micro: int, accumulation: int, world: int, step: int
) -> None:
    whole = samplers(lengths, micro, world, accumulation_steps=accumulation)[-1]
    resumed = samplers(lengths, micro, world, accumulation_steps=accumulation)[-1]
    run: list[list[int]] = []
    for epoch in range(step // whole.steps_per_epoch + 2):
        whole.set_epoch(epoch)
        run.extend(whole)
    resumed.start_at(step)
    assert len(resumed) == (resumed.steps_per_epoch - step % whole.steps_per_epoch) * accumulation
    rest = list(resumed)
    resumed.set_epoch(resumed.epoch + 1)
    rest.extend(resumed)
    assert rest == run[step * accumulation :]


def test_epochs_and_seeds_differ_and_lengths_are_grouped() -> None:
    lengths = [1 + (row * 37) % 100 for row in range(640)]
    sampler = LengthGroupedBatchSampler(lengths, 16, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first != list(LengthGroupedBatchSampler(lengths, 16, seed=2))
    spread = [max(lengths[row] for row in batch) - min(lengths[row] for row in batch) for batch in first]
    assert max(spread) <= 20
    means = [sum(lengths[row] for row in batch) / 16 for batch in first[:32]]
    assert means != sorted(means)  # the batches of a window are shuffled


@given(st.integers(0, 100), st.integers(1, 9), WORLDS)
@settings(max_examples=60, deadline=None)
def test_evaluation_counts_each_example_once_in_equally_many_forwards(count: int, size: int, world: int) -> None:
    ranks = [eval_batches(count, size, world, rank) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    kept = [row for batches in ranks for batch in batches for row in batch.indices[: batch.keep]]
    assert kept == list(range(count)) == list(chain.from_iterable(eval_shard(count, world, r) for r in range(world)))
    assert all(1 <= len(batch.indices) <= size for batches in ranks for batch in batches)


def tokenizer(padding_side: str = "right", pad: bool = True) -> Any:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh"]
    raw = Tokenizer(models.WordLevel({word: row for row, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=raw,
        pad_token="[PAD]" if pad else None,
        padding_side=padding_side,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def collator(tokenizer: Any, task: str = "sst2") -> Any:
    return get_task(task).collator(tokenizer, model=None)


def test_encode_truncates_and_keeps_pairs_apart() -> None:
    split = Split(["a b c d e", "f"], ["g h", "g"], [1, 0])
    encoded = encode(tokenizer(), split, max_seq_length=7)
    assert encoded.lengths == [7, 5] and len(encoded) == 2
    assert encoded[0] == {"input_ids": [2, 4, 5, 3, 10, 11, 3], "token_type_ids": [0, 0, 0, 0, 1, 1, 1], "labels": 1}
    with pytest.raises(DataError, match="max_seq_length must be at least 5 for this tokenizer; found 4"):
        encode(tokenizer(), split, max_seq_length=4)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("multiple", [None, 8])
def test_padding_to_the_longest(side: str, multiple: int | None) -> None:
    encoded = encode(tokenizer(side), Split(["a b c", "d"], None, [1, 0]), 32)
    batch = dataclasses.replace(collator(tokenizer(side)), pad_to_multiple_of=multiple)([encoded[0], encoded[1]])
    width = multiple or 5
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == {
        "input_ids": (2, width),
        "token_type_ids": (2, width),
        "attention_mask": (2, width),
        "labels": (2,),
    }
    for row, ids in enumerate(([2, 4, 5, 6, 3], [2, 7, 3])):
        mask = batch["attention_mask"][row].bool()
        assert batch["input_ids"][row][mask].tolist() == ids
        assert batch["input_ids"][row][~mask].eq(0).all()
        assert mask[0 if side == "right" else -1]
    assert batch["labels"].dtype == torch.int64


def test_scores_are_floats_and_a_padding_token_is_needed() -> None:
    encoded = encode(tokenizer(), Split(["a"], None, [2.5]), 8)
    assert collator(tokenizer(), "stsb")([encoded[0]])["labels"].tolist() == [2.5]
    with pytest.raises(DataError, match="no padding token"):
        collator(tokenizer(pad=False))


def test_as_the_batch_sampler_of_a_data_loader() -> None:
    encoded = encode(
        tokenizer(), Split(["a " * (1 + row % 7) for row in range(21)], None, [row % 2 for row in range(21)])
    )
    sampler = LengthGroupedBatchSampler(encoded.lengths, 4)
    loader = DataLoader(encoded, batch_sampler=sampler, collate_fn=collator(tokenizer()))
    assert len(loader) == len(list(loader)) == 6
    assert sum(len(batch["labels"]) for batch in islice(loader, 6)) == 24


def test_no_examples() -> None:
    with pytest.raises(DataError, match="no training examples"):
        LengthGroupedBatchSampler([], 4)
