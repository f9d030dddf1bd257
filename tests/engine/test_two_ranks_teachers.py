"""Teachers that are partitioned or of 8 bits, on two ranks."""

from __future__ import annotations

import pytest

from tests.engine.two_ranks import Figures, two_ranks

pytestmark = [pytest.mark.multirank, pytest.mark.slow]
ranks = two_ranks("teachers")


@pytest.mark.parametrize("stage", [0, 3])
def test_a_teacher_in_a_zero_3_engine_of_its_own_teaches_like_a_plain_one(ranks: Figures, stage: int) -> None:
    plain, partitioned = ranks[0]["teacher-plain-0"], ranks[0][f"teacher-partitioned-{stage}"]
    assert partitioned["losses"] == pytest.approx(plain["losses"], abs=1e-5)
    # It goes on in parts after each forward.
    assert plain["teacher_kept_whole"] > 40_000
    assert [rank[f"teacher-partitioned-{stage}"]["teacher_kept_whole"] for rank in ranks] == [0, 0]


@pytest.mark.parametrize("stage", [0, 3])
def test_an_int8_teacher_teaches_nearly_the_same_in_every_stage(ranks: Figures, stage: int) -> None:
    plain, low = ranks[0]["teacher-plain-0"]["losses"], ranks[0][f"teacher-int8-{stage}"]["losses"]
    assert low == pytest.approx(ranks[0]["teacher-int8-0"]["losses"], abs=1e-5)
    assert low == pytest.approx(plain, rel=0.03)
    assert low != pytest.approx(plain, rel=1e-4)
    assert low == sorted(low, reverse=True)


@pytest.mark.parametrize("run", ["plain-0", "partitioned-0", "partitioned-3", "int8-0", "int8-3"])
def test_a_resumed_run_has_the_losses_of_one_that_was_not_stopped(ranks: Figures, run: str) -> None:
    figures = ranks[0][f"teacher-{run}"]
    assert figures["resumed"] == pytest.approx(figures["losses"][2:], abs=1e-6)


def test_a_partitioned_teacher_of_8_bits_is_refused_before_the_student_is_changed(ranks: Figures) -> None:
    for rank in ranks:
        assert '"teacher_dtype": "int8"' in rank["refused_int8"]["message"]
        assert "partitions" in rank["refused_int8"]["message"]
        assert rank["refused_int8"]["compressed"] == 0
