"""Two ranks under every ZeRO stage: what ``scenarios.py`` measured."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.ranks import run_ranks
from xtc_ds.cli.main import main

pytestmark = [pytest.mark.multirank, pytest.mark.slow]

Figures = list[dict[str, Any]]


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """The figures of both ranks."""
    return run_ranks(Path(__file__).with_name("scenarios.py"), tmp_path_factory.mktemp("scenarios"), timeout=900)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_stages_have_the_loss_curve_of_stage_0(ranks: Figures, stage: int) -> None:
    assert ranks[0][f"stage{stage}"]["losses"] == pytest.approx(ranks[0]["stage0"]["losses"], abs=1e-5)


def test_the_loss_falls(ranks: Figures) -> None:
    losses = ranks[0]["stage0"]["losses"]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("run", ["stage0", "stage1", "stage2", "stage3", "bf16-1", "bf16-3", "zero_init"])
def test_layers_multiply_with_two_levels_per_row(ranks: Figures, run: str) -> None:
    assert [rank[run]["levels"] for rank in ranks] == [2, 2]


@pytest.mark.parametrize("run", ["stage0", "stage1", "stage2", "stage3"])
def test_frozen_logits_are_the_trained_ones_up_to_stored_precision(ranks: Figures, run: str) -> None:
    assert ranks[0][run]["shipped"] == pytest.approx(ranks[0][run]["trained"], abs=2e-3)


@pytest.mark.parametrize("run", ["stage0", "stage1", "stage2", "stage3", "bf16-1", "bf16-3"])
def test_a_reloaded_file_gives_the_frozen_logits(ranks: Figures, run: str) -> None:
    for rank in ranks:
        assert rank[run]["reloaded"] == pytest.approx(rank[run]["shipped"], abs=1e-6)


@pytest.mark.parametrize("run", ["stage0", "stage1", "stage2", "stage3", "bf16-1", "bf16-3"])
def test_one_process_exports_the_checkpoint_to_the_same_bytes(ranks: Figures, run: str, tmp_path: Path) -> None:
    packed = Path(ranks[0][run]["folder"])
    checkpoint = packed.with_name(packed.name.replace("packed", "kept"))
    assert main(["export", str(checkpoint), str(tmp_path / "out")]) == 0
    names = sorted(file.name for file in packed.iterdir())
    assert names == ["README.md", "config.json", "model.safetensors"]
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (packed / name).read_bytes()


@pytest.mark.parametrize("run", ["stage0", "stage3", "bf16-3"])
def test_the_plan_foretells_the_bytes_on_disk(ranks: Figures, run: str) -> None:
    assert ranks[0][run]["tensor_bytes"] == ranks[0][run]["planned"]
    assert ranks[0][run]["file_bytes"] < ranks[0][run]["planned"] + 8000  # the header


@pytest.mark.parametrize("stage", [1, 3])
def test_bf16_follows_the_float32_curve(ranks: Figures, stage: int) -> None:
    assert ranks[0][f"bf16-{stage}"]["losses"] == pytest.approx(ranks[0]["stage0"]["losses"], rel=0.02)


def test_the_teacher_is_no_part_of_the_student(ranks: Figures) -> None:
    assert not any(rank[f"stage{stage}"]["teacher_in_state"] for rank in ranks for stage in range(4))


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


def test_a_model_partitioned_by_zero_init_trains_like_one_that_was_not(ranks: Figures) -> None:
    plain, partitioned = ranks[0]["stage3"], ranks[0]["zero_init"]
    assert partitioned["losses"] == pytest.approx(plain["losses"][:3], abs=1e-5)


def test_static_ranges_agree_on_all_ranks(ranks: Figures) -> None:
    assert ranks[0]["static"]["ranges"] == ranks[1]["static"]["ranges"]
    assert all(low < high for low, high in ranks[0]["static"]["ranges"])


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


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_step_calls_no_collective_that_plain_deepspeed_does_not(ranks: Figures, stage: int) -> None:
    """Weights, inputs and distillation are each rank's own; static ranges, when on, are agreed on in one call."""
    found = ranks[0][f"collectives{stage}"]
    assert found["plain"]
    assert found["w1a8"] == found["plain"]
    assert Counter(found["static"]) - Counter(found["plain"]) == {"c10d::allreduce_": 1}
    assert not Counter(found["plain"]) - Counter(found["static"])
