"""Resumed training and accumulated micro-batches on two ranks."""

from __future__ import annotations

import pytest

from tests.engine.two_ranks import Figures, two_ranks

pytestmark = [pytest.mark.multirank, pytest.mark.slow]
ranks = two_ranks("resumed")


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_resumed_training_equals_training_that_was_not_stopped(ranks: Figures, stage: int) -> None:
    figures = ranks[0][f"resume{stage}"]
    assert figures["resumed"] == pytest.approx(figures["straight"], abs=1e-6)


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_the_schedule_goes_on_where_it_stood(ranks: Figures, stage: int) -> None:
    figures = ranks[0][f"resume{stage}"]
    # Period 1 from 8 bits: 7 at step 1, 6 at step 2, 5 at step 4.
    assert (figures["bits_after_load"], figures["bits"], figures["bits_resumed"]) == (6, 5, 5)
    assert figures["client_state"] == {"note": "mine"}


def test_accumulated_micro_batches_are_one_step_of_the_schedule(ranks: Figures) -> None:
    one, two = ranks[0]["accumulation1"], ranks[0]["accumulation2"]
    assert one["step"] == two["step"] == 3
    # Means over tokens differ a little with the split; a schedule off by one step would differ a lot.
    assert two["losses"] == pytest.approx(one["losses"], rel=0.02)
