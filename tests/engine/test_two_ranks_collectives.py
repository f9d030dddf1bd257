"""The collectives of a step, on two ranks."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.engine.two_ranks import Figures, two_ranks

pytestmark = [pytest.mark.multirank, pytest.mark.slow]
ranks = two_ranks("collectives")


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_step_calls_no_collective_that_plain_deepspeed_does_not(ranks: Figures, stage: int) -> None:
    """Weights, inputs and distillation are each rank's own; static ranges, when on, are agreed on in one call."""
    found = ranks[0][f"collectives{stage}"]
    assert found["plain"]
    assert found["w1a8"] == found["plain"]
    assert Counter(found["static"]) - Counter(found["plain"]) == {"c10d::allreduce_": 1}
    assert not Counter(found["plain"]) - Counter(found["static"])
