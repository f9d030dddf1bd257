"""MoQ on two ranks, in every ZeRO stage and precision."""

from __future__ import annotations

import pytest

from tests.engine.two_ranks import Figures, two_ranks

pytestmark = [pytest.mark.multirank, pytest.mark.slow]
ranks = two_ranks("moq")


MOQ = ["moq-fp32-0", "moq-fp32-1", "moq-fp32-2", "moq-fp32-3", "moq-bf16-2", "moq-fp16-1", "moq-fp16-3"]


@pytest.mark.parametrize("run", MOQ)
def test_moq_multiplies_with_fewer_levels_after_each_step(ranks: Figures, run: str) -> None:
    levels = ranks[0][run]["levels"]
    assert [found <= most for found, most in zip(levels, (32, 16, 8, 3, 3), strict=True)] == [True] * 5
    assert levels == sorted(levels, reverse=True)
    assert levels[0] > 16 > levels[1] > 8


@pytest.mark.parametrize("run", MOQ)
def test_all_ranks_round_at_random_in_the_same_way(ranks: Figures, run: str) -> None:
    assert ranks[0][run]["weights"] == ranks[1][run]["weights"]
    assert ranks[0][run]["losses"] != ranks[1][run]["losses"]


@pytest.mark.parametrize("run", MOQ[1:])
def test_moq_is_the_same_training_in_every_stage_and_precision(ranks: Figures, run: str) -> None:
    allowed = 1e-5 if "fp32" in run else 0.05
    assert ranks[0][run]["losses"] == pytest.approx(ranks[0][MOQ[0]]["losses"], abs=allowed)
