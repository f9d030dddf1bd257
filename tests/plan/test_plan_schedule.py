"""Bits as a function of the step."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtc_ds.techniques.weight_quantization.schedule import BitSchedule, bits_at, steps_since_change

START, TARGET = st.integers(1, 16), st.sampled_from([1, 1.58, 2, 3, 4, 8])


def slow_bits(steps: int, start: float, target: float, period: int) -> float:
    """The documented rule, with the logarithm."""
    if steps < period:
        return start
    if period == 0:
        return max(target, start - steps)
    return max(target, start - 1 - math.floor(math.log2(steps / period)))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 5000), START, TARGET, st.integers(0, 100))
def test_the_rule(steps: int, start: int, target: float, period: int) -> None:
    expected = target if start <= target else slow_bits(steps, start, target, period)
    assert bits_at(steps, start, target, period) == expected


def test_nothing_happens_before_the_offset() -> None:
    schedule = BitSchedule(offset=3, start_bits=1, target_bits=1, period=0)
    assert [schedule.at(step) for step in range(5)] == [None, None, None, 1, 1]


@pytest.mark.parametrize(
    ("start", "target", "period", "offset"), [(8, 2, 1, 0), (8, 1, 5, 7), (4, 1, 0, 2), (8, 8, 1, 4), (8, 1.58, 3, 0)]
)
def test_last_change_is_the_first_step_at_the_target(start: float, target: float, period: int, offset: int) -> None:
    schedule = BitSchedule(offset, start, target, period)
    steps = [schedule.at(step) for step in range(2000)]
    assert schedule.last_change == steps.index(target)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 400), START, TARGET, st.integers(0, 20))
def test_steps_since_the_last_change_of_bits(steps: int, start: int, target: float, period: int) -> None:
    bits = [bits_at(step, start, target, period) for step in range(steps + 1)]
    unchanged = next((back for back in range(steps) if bits[steps - back - 1] != bits[steps]), steps)
    assert steps_since_change(steps, start, target, period) == unchanged


def slow_shares(schedule: BitSchedule, ratio: float, steps: int) -> list[float]:
    """The share step by step: one less ``ratio`` a step, one again where the bits change."""
    share, shares = 1.0, []
    for step in range(steps):
        before, now = schedule.at(step - 1), schedule.at(step)
        share = 1.0 if before is None or before != now else max(0.0, share - ratio)
        shares.append(share)
    return shares


@pytest.mark.parametrize(("start", "period", "offset"), [(8, 1, 0), (4, 5, 7), (8, 0, 3), (2, 9, 0)])
@pytest.mark.parametrize("ratio", [0.0, 0.001, 0.125, 0.3, 1.0])
def test_the_float_share_starts_at_one_after_each_change(start: int, period: int, offset: int, ratio: float) -> None:
    schedule = BitSchedule(offset, start, 2, period)
    shares = [schedule.float_share_at(step, ratio) for step in range(300)]
    assert shares == pytest.approx(slow_shares(schedule, ratio, 300), abs=1e-9)
    assert all(share >= 0 for share in shares)


def test_without_mixing_the_share_is_zero_from_the_offset_on() -> None:
    schedule = BitSchedule(2, 8, 2, 1)
    assert [schedule.float_share_at(step, None) for step in range(5)] == [1, 1, 0, 0, 0]
