"""Formats that learn their levels, on two ranks in every ZeRO stage."""

from __future__ import annotations

import pytest

from tests.engine.learned_runs import LEARNED_RUNS
from tests.engine.two_ranks import Figures, two_ranks

pytestmark = [pytest.mark.multirank, pytest.mark.slow]
ranks = two_ranks("learned")

RUNS = list(LEARNED_RUNS)


@pytest.mark.parametrize("run", [run for run in RUNS if not run.endswith("-0")])
def test_every_stage_is_the_same_training(ranks: Figures, run: str) -> None:
    # Without ZeRO an optimizer counts the steps of a codebook from its first gradient, with it from the first of all.
    allowed = 0.05 if "bf16" in run or "late" in run else 1e-4
    assert ranks[0][run]["losses"] == pytest.approx(ranks[0][f"{run.split('-')[0]}-0"]["losses"], abs=allowed)


@pytest.mark.parametrize("run", RUNS)
def test_all_ranks_have_the_same_codebooks_and_codes(ranks: Figures, run: str) -> None:
    for key in ("learned", "starts", "codes"):
        assert ranks[0][run][key] == ranks[1][run][key]
    # Every linear layer and table but the head has one; codes only where they stay.
    assert len(ranks[0][run]["learned"]) == len(ranks[0][run]["starts"]) == 16
    assert len(ranks[0][run]["codes"]) == (0 if run.startswith("nearest") else 16)


@pytest.mark.parametrize("run", RUNS)
def test_codebooks_are_trained(ranks: Figures, run: str) -> None:
    learned = ranks[0][run]["learned"].values()
    assert all(any(value != 0 for value in values) for values in learned)


@pytest.mark.parametrize("run", RUNS)
def test_a_resumed_run_equals_one_that_was_not_stopped(ranks: Figures, run: str) -> None:
    for rank in ranks:
        straight, resumed = rank[run], rank[run]["resumed"]
        assert resumed["losses"] == pytest.approx(straight["losses"][3:], abs=1e-6)
        for key in ("learned", "starts", "codes"):
            assert resumed[key] == straight[key], key


@pytest.mark.parametrize("run", RUNS)
def test_what_was_trained_is_shipped_and_read(ranks: Figures, run: str) -> None:
    figures = ranks[0][run]
    assert figures["reloaded"] == figures["shipped"]
    assert figures["shipped"] == pytest.approx(figures["trained"], abs=0.1 if "bf16" in run else 1e-5)
