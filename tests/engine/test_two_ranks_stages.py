"""Every ZeRO stage and precision on two ranks: what ``scenarios.py`` measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.two_ranks import Figures, two_ranks
from tests.half_precision import NO_FP16, fp16_supported
from xtc_ds.cli.main import main

pytestmark = [pytest.mark.multirank, pytest.mark.slow]
ranks = two_ranks("stages")

FP32 = ["stage0", "stage1", "stage2", "stage3"]
BF16 = ["bf16-1", "bf16-3"]
needs_fp16 = pytest.mark.skipif(not fp16_supported(), reason=NO_FP16)
FP16 = [pytest.param(f"fp16-{stage}", marks=needs_fp16) for stage in range(4)]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_stages_have_the_loss_curve_of_stage_0(ranks: Figures, stage: int) -> None:
    assert ranks[0][f"stage{stage}"]["losses"] == pytest.approx(ranks[0]["stage0"]["losses"], abs=1e-5)


def test_the_loss_falls(ranks: Figures) -> None:
    losses = ranks[0]["stage0"]["losses"]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("run", [*FP32, *BF16, *FP16, "zero_init"])
def test_layers_multiply_with_two_levels_per_row(ranks: Figures, run: str) -> None:
    assert [rank[run]["levels"] for rank in ranks] == [2, 2]


@pytest.mark.parametrize("run", FP32)
def test_frozen_logits_are_the_trained_ones_up_to_stored_precision(ranks: Figures, run: str) -> None:
    assert ranks[0][run]["shipped"] == pytest.approx(ranks[0][run]["trained"], abs=2e-3)


@pytest.mark.parametrize("run", [*FP32, *BF16, *FP16])
def test_a_reloaded_file_gives_the_frozen_logits(ranks: Figures, run: str) -> None:
    for rank in ranks:
        assert rank[run]["reloaded"] == pytest.approx(rank[run]["shipped"], abs=1e-6)


@pytest.mark.parametrize("run", [*FP32, *BF16, *FP16])
def test_one_process_exports_the_checkpoint_to_the_same_bytes(ranks: Figures, run: str, tmp_path: Path) -> None:
    packed = Path(ranks[0][run]["folder"])
    checkpoint = packed.with_name(packed.name.replace("packed", "kept"))
    assert main(["export", str(checkpoint), str(tmp_path / "out")]) == 0
    names = sorted(file.name for file in packed.iterdir())
    assert names == ["README.md", "config.json", "model.safetensors"]
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (packed / name).read_bytes()


@pytest.mark.parametrize("run", ["stage0", "stage3", "bf16-3", *FP16])
def test_the_plan_foretells_the_bytes_on_disk(ranks: Figures, run: str) -> None:
    assert ranks[0][run]["tensor_bytes"] == ranks[0][run]["planned"]
    assert ranks[0][run]["file_bytes"] < ranks[0][run]["planned"] + 8000  # the header


@pytest.mark.parametrize("run", [*BF16, *FP16])
def test_half_precision_follows_the_float32_curve(ranks: Figures, run: str) -> None:
    # In stage 0 DeepSpeed steps with another optimizer wrapper, which moves plain training from its curve as well.
    allowed = 0.08 if run == "fp16-0" else 0.02
    assert ranks[0][run]["losses"] == pytest.approx(ranks[0]["stage0"]["losses"], rel=allowed)


def test_the_teacher_is_no_part_of_the_student(ranks: Figures) -> None:
    assert not any(rank[f"stage{stage}"]["teacher_in_state"] for rank in ranks for stage in range(4))


def test_a_model_partitioned_by_zero_init_trains_like_one_that_was_not(ranks: Figures) -> None:
    plain, partitioned = ranks[0]["stage3"], ranks[0]["zero_init"]
    assert partitioned["losses"] == pytest.approx(plain["losses"][:3], abs=1e-5)


def test_static_ranges_agree_on_all_ranks(ranks: Figures) -> None:
    assert ranks[0]["static"]["ranges"] == ranks[1]["static"]["ranges"]
    assert all(low < high for low, high in ranks[0]["static"]["ranges"])
