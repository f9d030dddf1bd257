"""Pruning on two ranks."""

from __future__ import annotations

import pytest

from tests.engine.two_ranks import Figures, two_ranks

pytestmark = [pytest.mark.multirank, pytest.mark.slow]
ranks = two_ranks("pruning")


PRUNING = ["pruning-0", "pruning-3", "pruning-fp16-1", "pruning-bf16-3"]


@pytest.mark.parametrize("run", PRUNING[1:])
def test_pruning_is_the_same_training_in_every_stage_and_precision(ranks: Figures, run: str) -> None:
    allowed = 1e-5 if run == "pruning-3" else 0.05
    assert ranks[0][run]["losses"] == pytest.approx(ranks[0]["pruning-0"]["losses"], abs=allowed)


def test_every_stage_finds_the_same_masks(ranks: Figures) -> None:
    assert ranks[0]["pruning-3"]["masks"] == ranks[0]["pruning-0"]["masks"]


@pytest.mark.parametrize("run", PRUNING)
def test_all_ranks_prune_the_same_weights(ranks: Figures, run: str) -> None:
    for key in ("masks", "scores"):
        assert ranks[0][run][key] == ranks[1][run][key]
    # 2 layers of: half of 32 x 32 learned, a quarter gradually, 32 of 64 rows, 1 of 2 heads.
    sizes = sorted(len(kept) for kept in ranks[0][run]["masks"].values())
    assert sizes == [1, 1, 32, 32, 256, 256, 512, 512]


@pytest.mark.parametrize("run", PRUNING)
def test_learned_scores_are_trained(ranks: Figures, run: str) -> None:
    first, last = ranks[0][run]["first_scores"], ranks[0][run]["scores"]
    assert len(first) == 4
    assert all(last[name] != first[name] for name in first)


@pytest.mark.parametrize("run", PRUNING)
def test_resumed_pruning_equals_pruning_that_was_not_stopped(ranks: Figures, run: str) -> None:
    for rank in ranks:
        straight, resumed = rank[run], rank[run]["resumed"]
        assert resumed["losses"] == pytest.approx(straight["losses"][3:], abs=1e-6)
        assert resumed["masks"] == straight["masks"]
        assert resumed["momentum"] == straight["momentum"]
        assert any(straight["momentum"])
