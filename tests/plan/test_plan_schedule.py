"""Bits as a function of the step."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtc_ds.plan import BitSchedule, bits_at


def slow_bits(steps: int, start: float, target: float, period: int) -> float:
    """The documented rule, with the logarithm."""
    if steps < period:
        return start
    if period == 0:
        return max(target, start - steps)
    return max(target, start - 1 - math.floor(math.log2(steps / period)))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.integers(0, 5000),
    st.integers(1, 16),
    st.sampled_from([1, 1.58, 2, 3, 4, 8]),
    st.integers(0, 100),
)
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
