"""Masks against slow twins in plain Python, and the schedule of gradual pruning."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xtc_ds.techniques.pruning.norms import channel_norms, head_norms, row_norms
from xtc_ds.techniques.pruning.top import kept_count, straight_through, top_mask
from xtc_ds.techniques.sparse_pruning.patterns import Blocks, KeepOf, Singles, parse_pattern
from xtc_ds.techniques.sparse_pruning.snip import GradualSchedule


def slow_top(scores: list[float], kept: int) -> list[float]:
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    return [1.0 if i in order[:kept] else 0.0 for i in range(len(scores))]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.sampled_from([0.0, 0.5, -1.0, 1e30, -1e-30, 7.0]), min_size=1, max_size=40),
    st.floats(0.01, 1.0),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_the_largest_scores_stay_and_of_equals_the_first(scores: list[float], ratio: float, dtype: torch.dtype) -> None:
    tensor = torch.tensor(scores, dtype=dtype)
    kept = kept_count(ratio, len(scores))
    assert kept == math.ceil(ratio * len(scores))
    mask = top_mask(tensor, kept)
    assert mask.dtype == dtype
    assert mask.tolist() == slow_top(tensor.tolist(), kept)


def test_many_equal_scores_are_told_apart_by_their_place() -> None:
    scores = torch.randint(0, 3, (5000,)).float()
    assert top_mask(scores, 2500).tolist() == slow_top(scores.tolist(), 2500)


def test_the_gradient_of_a_mask_goes_to_the_scores_as_it_is() -> None:
    scores = torch.randn(4, 3, requires_grad=True)
    wanted = torch.randn(4, 3)
    (straight_through(scores, top_mask(scores, 5)) * wanted).sum().backward()
    assert torch.equal(scores.grad, wanted)


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3, 2)])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 1), (2, 4), (6, 8)])
def test_blocks_stay_or_go_together(shape: tuple[int, ...], rows: int, columns: int) -> None:
    pattern, scores = Blocks(rows, columns), torch.rand(shape)
    mask = pattern.mask(pattern.unit_scores(scores), 0.4, shape)
    blocks = {}
    # A block lies within one kernel position.
    for o, i, *place in product(*map(range, shape)):
        blocks.setdefault((o // rows, tuple(place), i // columns), []).append((o, i, *place))
    means = {key: float(torch.stack([scores[at] for at in block]).mean()) for key, block in blocks.items()}
    best = sorted(means, key=lambda key: -means[key])[: math.ceil(0.4 * len(means))]
    for key, block in blocks.items():
        assert {float(mask[at]) for at in block} == {1.0 if key in best else 0.0}


@pytest.mark.parametrize("shape", [(4, 8), (4, 8, 2, 3)])
@pytest.mark.parametrize(("kept", "of"), [(2, 4), (1, 2), (1, 8), (4, 4)])
def test_n_of_m_neighbouring_inputs_stay(shape: tuple[int, ...], kept: int, of: int) -> None:
    pattern, scores = KeepOf(kept, of), torch.rand(shape)
    mask = pattern.mask(pattern.unit_scores(scores), kept / of, shape)
    inputs_last = (mask.movedim(1, -1).reshape(-1, of), scores.movedim(1, -1).reshape(-1, of))
    for group, values in zip(*inputs_last, strict=True):
        assert group.tolist() == slow_top(values.tolist(), kept)


def test_n_of_m_on_its_way_prunes_the_groups_that_lose_least() -> None:
    scores = torch.tensor([[1.0, 2, 3, 4, 9, 9, 1, 1, 5, 5, 5, 5, 0, 0, 7, 7]])
    pattern = KeepOf(2, 4)
    mask = pattern.mask(pattern.unit_scores(scores), 0.75, (1, 16))
    # Half of the groups make a sparsity of a quarter; the second and the last lose 2 and 0.
    assert mask.tolist() == [[1] * 4 + [1, 1, 0, 0] + [1] * 4 + [0, 0, 1, 1]]
    assert pattern.mask(pattern.unit_scores(scores), 1.0, (1, 16)).all()


def test_patterns_are_read_as_outputs_by_inputs() -> None:
    assert parse_pattern(None) == Singles()
    assert parse_pattern("4x1") == Blocks(rows=4, columns=1)
    assert parse_pattern("2:4") == KeepOf(kept=2, of=4)


@pytest.mark.parametrize(
    ("pattern", "shape", "reason"),
    [
        ("3x1", (8, 6), "3 does not divide its 8 outputs"),
        ("4x4", (8, 6), "4 does not divide its 6 inputs"),
        ("2:4", (8, 6), "4 does not divide its 6 inputs"),
        ("2:4", (6, 8, 3, 3), None),
        ("4x2", (8, 6), None),
        (None, (7, 5), None),
    ],
)
def test_what_does_not_divide_is_told(pattern: str | None, shape: tuple[int, ...], reason: str | None) -> None:
    assert parse_pattern(pattern).misfit(shape) == reason


def test_norms_are_sums_of_magnitudes() -> None:
    w = torch.randn(6, 8)
    assert torch.allclose(row_norms(w), w.abs().sum(1, keepdim=True))
    assert row_norms(w).shape == (6, 1)
    heads = torch.stack([w[:, 0:4].abs().sum(), w[:, 4:8].abs().sum()]).view(1, 2)
    assert torch.allclose(head_norms(w, 2), heads)
    kernels = torch.randn(5, 3, 2, 2)
    assert torch.allclose(channel_norms(kernels).flatten(), kernels.flatten(1).abs().sum(1))
    assert channel_norms(kernels).shape == (5, 1, 1, 1)


def test_sparsity_rises_by_the_cubic_law() -> None:
    schedule = GradualSchedule(offset=10, end=20, stride=1, dense_ratio=0.2)
    found = [schedule.dense_ratio_at(step) for step in (0, 10, 15, 20, 99)]
    assert found == pytest.approx([1, 1, 1 - 0.8 * (1 - 0.5**3), 0.2, 0.2])


@pytest.mark.parametrize(
    ("offset", "end", "stride", "due"),
    [
        (2, 9, 3, [2, 5, 8, 9]),
        (0, 4, 2, [2, 4]),
        (0, 0, 1, [1]),
        (5, 5, 10, [5]),
        (1, 3, 1, [1, 2, 3]),
    ],
)
def test_masks_are_renewed_every_stride_and_at_the_end(offset: int, end: int, stride: int, due: list[int]) -> None:
    schedule = GradualSchedule(offset, end, stride, 0.5)
    assert [step for step in range(1, 15) if schedule.is_due(step)] == due
    assert schedule.dense_ratio_at(due[-1]) == 0.5


def test_all_zero_and_single_weights_have_masks() -> None:
    zeros: Tensor = torch.zeros(4, 4)
    assert Singles().mask(zeros, 0.25, (4, 4)).sum() == 4
    assert Singles().mask(torch.ones(1, 1), 0.01, (1, 1)).tolist() == [[1]]
