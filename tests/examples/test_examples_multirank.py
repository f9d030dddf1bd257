"""Example configs on two ranks: what ``two_ranks.py`` measured."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.examples import two_ranks
from tests.ranks import run_ranks

pytestmark = [pytest.mark.multirank, pytest.mark.slow]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The figures of both ranks."""
    return run_ranks(two_ranks.__file__, tmp_path_factory.mktemp("examples"))


@pytest.mark.parametrize("name", two_ranks.NAMES)
def test_both_ranks_ship_the_same_model(ranks: list[dict[str, Any]], name: str) -> None:
    first, second = (rank[name] for rank in ranks)
    assert first == second


@pytest.mark.usefixtures("single_process_group")
@pytest.mark.parametrize("name", two_ranks.NAMES)
def test_zero_3_on_two_ranks_is_stage_0_on_one(ranks: list[dict[str, Any]], name: str) -> None:
    torch.set_num_threads(1)
    alone = two_ranks.run(name, stage=0, ranks=1)
    assert ranks[0][name]["losses"] == pytest.approx(alone["losses"], abs=1e-4)
    assert ranks[0][name]["shapes"] == alone["shapes"]
