"""What a user of ``DistributedSampler`` may rely on, and how little of a batch is padding."""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_glue import GLUE_DIR, needs_glue

from xtc_ds.launcher import load_task
from xtc_ds.launcher.batching import LengthGroupedBatchSampler

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=150)
WORLDS = st.sampled_from([1, 2, 3])


def epoch_of(
    lengths: list[int], micro: int, world: int, epoch: int = 0, accumulation: int = 1, seed: int = 0, window: int = 4
) -> list[list[list[int]]]:
    """The micro-batches of every rank in one epoch."""
    found = []
    for rank in range(world):
        sampler = LengthGroupedBatchSampler(
            lengths, micro, accumulation_steps=accumulation, world_size=world, rank=rank, seed=seed, window=window
        )
        sampler.set_epoch(epoch)
        found.append(list(sampler))
    return found


@given(LENGTHS, st.integers(1, 6), WORLDS, st.integers(0, 4), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_ranks_see_each_example_once_and_fill_up_less_than_one_batch(
    lengths: list[int], micro: int, world: int, epoch: int, seed: int
) -> None:
    ranks = epoch_of(lengths, micro, world, epoch, seed=seed)
    seen = Counter(chain.from_iterable(chain.from_iterable(ranks)))
    size, missing = micro * world, -len(lengths) % (micro * world)
    assert len({len(rank) for rank in ranks}) == 1
    assert set(seen) == set(range(len(lengths)))
    assert sum(seen.values()) - len(lengths) == missing < size
    if missing == 0:
        assert set(seen.values()) == {1}
        shares = [set(chain.from_iterable(rank)) for rank in ranks]
        assert sum(map(len, shares)) == len(lengths)  # no example on two ranks


@given(LENGTHS, st.integers(1, 3), st.integers(0, 3), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_the_order_of_global_batches_is_that_of_one_process(
    lengths: list[int], micro: int, epoch: int, seed: int
) -> None:
    def steps(world: int) -> list[list[int]]:
        each = 6 // world
        ranks = epoch_of(lengths, micro, world, epoch, each, seed)
        count = len(ranks[0]) // each
        return [
            [row for part in range(each) for rank in ranks for row in rank[step * each + part]] for step in range(count)
        ]

    assert steps(1) == steps(2) == steps(3) == steps(6)


def batches_of(lengths: list[int], world: int, epoch: int, seed: int) -> frozenset[frozenset[int]]:
    """The micro-batches of an epoch without their order: which examples are together."""
    return frozenset(frozenset(batch) for rank in epoch_of(lengths, 4, world, epoch, seed=seed) for batch in rank)


# Two windows and more, of 4 global batches of 4 examples on up to 3 ranks.
@given(st.lists(st.integers(1, 60), min_size=2 * 4 * 4 * 3, max_size=150), WORLDS, st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_no_two_epochs_nor_seeds_have_the_same_batches(lengths: list[int], world: int, seed: int) -> None:
    epochs = [batches_of(lengths, world, epoch, seed) for epoch in range(4)]
    assert len({*epochs, batches_of(lengths, world, 0, seed + 1)}) == 5  # other neighbours, not only another order
    assert epochs[0] == batches_of(lengths, world, 0, seed)


@given(st.permutations(range(1, 49)), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_within_one_window_examples_of_distinct_lengths_keep_their_neighbours(lengths: list[int], seed: int) -> None:
    """Sorting leaves nothing to chance there but the order of the batches, which does change."""
    assert len({batches_of(lengths, 3, epoch, seed) for epoch in range(4)}) == 1
    steps = {str(epoch_of(lengths, 4, 3, epoch, seed=seed)) for epoch in range(8)}
    assert len(steps) > 1


def mrpc_lengths() -> list[int]:
    """About the tokens of MRPC's training pairs: words and marks, and the three special tokens."""
    train = load_task("mrpc", GLUE_DIR).train
    assert train.texts_b is not None
    pairs = zip(train.texts_a, train.texts_b, strict=True)
    return [3 + sum(len(re.findall(r"\w+|[^\w\s]", text)) for text in pair) for pair in pairs]


def waste(lengths: list[int], batches: list[list[int]]) -> float:
    """Share of what is computed that is padding."""
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    return 1 - sum(lengths[row] for batch in batches for row in batch) / padded


@needs_glue
@pytest.mark.parametrize("world", [1, 2, 3])
def test_mrpc_is_padded_little_and_still_mixed(world: int) -> None:
    lengths = mrpc_lengths()
    assert len(lengths) == 3667
    for epoch in range(2):
        ranks = epoch_of(lengths, 32, world, epoch, window=32)
        batches = [batch for step in zip(*ranks, strict=True) for batch in step]
        order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(epoch)).tolist()
        at_random = waste(lengths, [order[start : start + 32] for start in range(0, len(order), 32)])
        assert waste(lengths, batches) < 0.06 < 0.25 < at_random
        # Sorted by length, the halves would differ by a third and more.
        half = len(batches) // 2
        means = [
            sum(lengths[r] for b in part for r in b) / (32 * len(part)) for part in (batches[:half], batches[half:])
        ]
        assert means[0] == pytest.approx(means[1], rel=0.15)
