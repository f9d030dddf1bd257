"""Compression inside Hugging Face's Trainer and Accelerate: what ``hugging_face.py`` measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integrations import hugging_face
from tests.ranks import run_ranks
from tests.tiny import batch, tiny_model
from xtc_ds.errors import EngineError, ExportError
from xtc_ds.integrations import CompressionCallback

STAGES = [0, 2, 3]
Figures = dict[str, Any]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """One start of the runner serves all tests."""
    return run_ranks(hugging_face.__file__, tmp_path_factory.mktemp("hugging_face"), ranks=1)[0]


def logged(logs: list[dict[str, Any]], name: str) -> list[float]:
    return [entry[name] for entry in logs if "loss" in entry]


@pytest.mark.slow
class TestRun:
    """A Trainer's run in every ZeRO stage, and a loop of Accelerate's."""

    @pytest.mark.parametrize("stage", STAGES)
    def test_the_trainer_compresses_and_logs_what_is_in_force(self, figures: Figures, stage: int) -> None:
        logs = figures[f"trainer{stage}"]["logs"]
        assert logged(logs, "weights_bits_all") == [2, 1, 1, 1]
        assert logged(logs, "activations_bits_all") == [8] * 4
        assert all(value > 0 for value in logged(logs, "kd_logits"))

    @pytest.mark.parametrize("stage", STAGES)
    def test_zero_stages_train_alike(self, figures: Figures, stage: int) -> None:
        losses, plain = (logged(figures[f"trainer{number}"]["logs"], "loss") for number in (stage, 0))
        assert losses == pytest.approx(plain, abs=2e-4)
        assert losses[-1] != losses[0]

    @pytest.mark.parametrize("stage", STAGES)
    def test_a_resumed_run_goes_on_with_the_schedule(self, figures: Figures, stage: int) -> None:
        run = figures[f"trainer{stage}"]
        for name in ("loss", "weights_bits_all"):
            assert logged(run["resumed"], name) == pytest.approx(logged(run["logs"], name), abs=2e-4)

    @pytest.mark.parametrize("stage", STAGES)
    def test_the_callback_ships_the_trained_model(self, figures: Figures, stage: int) -> None:
        run = figures[f"trainer{stage}"]
        assert run["loaded"] == run["shipped"]

    def test_accelerate_compresses_in_prepare(self, figures: Figures) -> None:
        run = figures["accelerate"]
        assert run["bits"] == {"all": 1}
        assert len(set(run["losses"])) == 8
        assert run["shipped"] != figures["trainer2"]["shipped"]


def train_plainly(tmp_path: Path, callback: CompressionCallback) -> None:
    from transformers import Trainer, TrainingArguments

    inputs = batch()
    rows: Any = [{name: value[row] for name, value in inputs.items()} for row in range(4)]
    arguments = TrainingArguments(str(tmp_path / "run"), report_to=[], use_cpu=True, max_steps=1)
    Trainer(tiny_model(), arguments, train_dataset=rows, callbacks=[callback]).train()


def test_a_model_that_is_not_compressed_is_noticed_before_training(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"not compressed; call xtc_ds.integrations.install\(\)"):
        train_plainly(tmp_path, CompressionCallback(tmp_path / "packed"))
    assert not (tmp_path / "packed").exists()


def test_a_folder_of_other_files_is_noticed_before_training(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ExportError, match="holds files that are not an earlier export"):
        train_plainly(tmp_path, CompressionCallback(tmp_path))
