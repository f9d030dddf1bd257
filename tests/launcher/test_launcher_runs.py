"""Whole runs of the launcher with tiny models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import xtc_ds  # noqa: F401 - teaches transformers the format
from tests import tiny
from tests.launcher.tiny_run import launch, review_words, save_config, save_glue, save_model
from tests.validations import count_validations
from xtc_ds.launcher import pipeline

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("single_process_group")]

QUICK = ("--max_steps", "3", "--teacher_max_steps", "2", "--per_device_eval_batch_size", "8")
REVIEWS = (*QUICK, "--max_train_samples", "24", "--max_eval_samples", "10", "--max_seq_length", "20")


def results_of(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return loaded


def test_reviews_from_start_to_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    model = save_model(tmp_path / "model", words=review_words())
    config = save_config(tmp_path / "c.json")
    assert launch("--ds_config", config, "--model_name_or_path", model, "--output_dir", out, "--seed", 7, *REVIEWS) == 0
    printed = capsys.readouterr()
    assert "Loading weights" not in printed.out + printed.err
    for part in ("teacher 2/2", "Compression plan", "student 3/3", "attention", "W1 A8", "samples/s", "smaller by"):
        assert part in printed.out
    results = results_of(out)
    assert {
        "task": "reviews",
        "metric": "accuracy",
        "steps": 3,
        "world_size": 1,
        "zero_stage": 0,
        "seed": 7,
    }.items() <= (results.items())
    assert 0 <= results["teacher"]["accuracy"] <= 1
    assert 0 <= results["student"]["accuracy"] <= 1
    assert results["layers"] == {"teacher": 4, "student": 2}
    assert {"prepare", "teacher", "student", "evaluate", "export", "verify"} <= results["seconds"].keys()
    assert results["max_logit_difference"] == 0
    assert {"python", "torch", "deepspeed", "transformers"} <= results["versions"].keys()
    size = results["bytes"]
    assert size["packed"] == (out / "packed" / "model.safetensors").stat().st_size
    assert size["packed"] == size["packed_planned"] + size["packed_header"]
    assert results["compression_ratio"] == pytest.approx(size["dense"] / size["packed"], abs=1e-3)
    packed = AutoModelForSequenceClassification.from_pretrained(out / "packed")
    tokenizer = AutoTokenizer.from_pretrained(out / "packed")
    logits = packed(**tokenizer(["the food is good"], return_tensors="pt")).logits
    assert logits.shape == (1, 2)
    assert torch.isfinite(logits).all()
    assert packed.config.id2label == {0: "negative", 1: "positive"}


@pytest.mark.parametrize(
    ("task", "metrics", "labels"),
    [
        ("mrpc", {"accuracy", "f1", "headline"}, 2),
        ("stsb", {"pearson", "spearmanr", "headline"}, 1),
        ("mnli", {"matched_accuracy", "mismatched_accuracy", "headline"}, 3),
    ],
)
def test_pair_tasks(task: str, metrics: set[str], labels: int, tmp_path: Path) -> None:
    data = save_glue(tmp_path / "data", task)
    model = save_model(tmp_path / "model")
    out = tmp_path / "out"
    flags = ["--model_name_or_path", model, "--task_name", task, "--data_dir", data, "--output_dir", out]
    assert launch("--ds_config", save_config(tmp_path / "c.json"), *flags, *QUICK) == 0
    results = results_of(out)
    assert results["task"] == task
    assert results["student"].keys() == results["teacher"].keys() == metrics
    packed = json.loads((out / "packed" / "config.json").read_text())
    assert packed["problem_type"] == ("regression" if task == "stsb" else "single_label_classification")
    head = load_file(out / "teacher" / "model.safetensors")["classifier.weight"]
    assert head.shape == (labels, 32)


def test_regression_in_bf16(tmp_path: Path) -> None:
    flags = ["--model_name_or_path", save_model(tmp_path / "model"), "--task_name", "stsb"]
    flags += ["--data_dir", save_glue(tmp_path / "data", "stsb"), "--output_dir", str(tmp_path / "out")]
    config = save_config(tmp_path / "c.json", bf16={"enabled": True}, zero_optimization={"stage": 2})
    assert launch("--ds_config", config, *flags, *QUICK) == 0
    assert results_of(tmp_path / "out")["zero_stage"] == 2


@pytest.mark.parametrize("kind", tiny.ARCHITECTURES[1:])
def test_architectures(kind: str, tmp_path: Path) -> None:
    # A decoder needs to know the padding; here neither the model nor its tokenizer does.
    pad = kind != "gpt2"
    model = save_model(tmp_path / "model", kind, pad=pad)
    data, out = save_glue(tmp_path / "data", "mrpc"), tmp_path / "out"
    flags = ["--model_name_or_path", model, "--task_name", "mrpc", "--data_dir", data, "--output_dir", out]
    assert launch("--ds_config", save_config(tmp_path / "c.json"), *flags, *QUICK) == 0
    assert results_of(out)["max_logit_difference"] == 0
    if not pad:
        assert json.loads((out / "packed" / "config.json").read_text())["pad_token_id"] == 2


SHIPPED = Path(__file__).parents[2] / "json_configs"


@pytest.mark.parametrize("name", ["layer_reduction", "quant_int4", "xtc_1bit_zero2", "xtc_1bit_zero3_bf16"])
def test_shipped_configs_run_to_the_end(name: str, tmp_path: Path) -> None:
    out, teacher = tmp_path / "out", save_model(tmp_path / "teacher", words=review_words())
    assert launch("--ds_config", SHIPPED / f"{name}.json", "--teacher", teacher, "--output_dir", out, *REVIEWS) == 0
    results = results_of(out)
    assert results["max_logit_difference"] == 0
    assert results["bytes"]["packed"] == results["bytes"]["packed_planned"] + results["bytes"]["packed_header"]


def test_given_teacher_is_not_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validated = count_validations(monkeypatch)
    out, teacher = tmp_path / "out", save_model(tmp_path / "teacher", words=review_words())
    config = save_config(tmp_path / "c.json", optimizer={"type": "AdamW", "params": {"lr": "auto", "torch_adam": True}})
    assert launch("--ds_config", config, "--teacher", teacher, "--output_dir", out, *REVIEWS) == 0
    assert not (out / "teacher").exists()
    assert "teacher" not in results_of(out)["seconds"]
    assert len(validated) == 1  # the run hands the parsed block on


def test_a_run_that_stopped_before_its_first_checkpoint_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_model(tmp_path / "model", words=review_words())
    flags = ["--ds_config", save_config(tmp_path / "c.json"), *REVIEWS, "--model_name_or_path", model]
    flags += ["--max_steps", "2", "--save_steps", "50", "--output_dir", tmp_path / "cut"]

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_checkpoint", killed)
        assert launch(*flags) == 130
    assert launch(*flags, "--resume") == 0
    assert "no checkpoint of the student yet (--save_steps 50)" in capsys.readouterr().out


def test_resumed_run_equals_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dropout = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
    model = save_model(tmp_path / "model", words=review_words(), **dropout)
    flags = ["--ds_config", save_config(tmp_path / "c.json", gradient_accumulation_steps=2), *REVIEWS]
    flags += ["--model_name_or_path", model, "--max_steps", "5", "--save_steps", "2"]
    assert launch(*flags, "--output_dir", tmp_path / "whole") == 0
    save = pipeline._checkpoint

    def killed(state: Any, engine: Any, step: int) -> None:
        save(state, engine, step)
        if step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_checkpoint", killed)
    assert launch(*flags, "--output_dir", tmp_path / "cut") == 130
    assert not (tmp_path / "cut" / "results.json").exists()
    assert [path.name for path in (tmp_path / "cut" / "checkpoints").glob("global_step*")] == ["global_step2"]
    monkeypatch.setattr(pipeline, "_checkpoint", save)
    assert launch(*flags, "--output_dir", tmp_path / "cut", "--resume") == 0
    packed = [(tmp_path / run / "packed" / "model.safetensors").read_bytes() for run in ("whole", "cut")]
    assert packed[0] == packed[1]
    assert results_of(tmp_path / "whole")["student"] == results_of(tmp_path / "cut")["student"]


@pytest.mark.multirank
@pytest.mark.slow
def test_two_ranks(tmp_path: Path) -> None:
    model, out = save_model(tmp_path / "model", words=review_words()), tmp_path / "out"
    config = save_config(tmp_path / "c.json", zero_optimization={"stage": 1})
    root = Path(__file__).resolve().parents[2]
    ranks = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    environment = {key: value for key, value in os.environ.items() if key not in ranks}
    environment |= {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_accelerators", "2", "--master_port"]
    command += [str(_free_port()), str(root / "launcher" / "train.py"), "--ds_config", config]
    command += ["--model_name_or_path", model, "--output_dir", str(out), *REVIEWS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count("Compression plan") == 1
    assert results_of(out)["world_size"] == 2
    assert len(list(tmp_path.rglob("results.json"))) == 1


def _free_port() -> int:
    from tests.conftest import free_port

    return free_port()
