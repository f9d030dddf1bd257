"""Tasks that the package does not know: registered, trained, exported and reloaded through the launcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import xtc_ds
from tests import tiny
from tests.docs.pages import ROOT, blocks
from tests.extension import toy_tasks
from tests.launcher.tiny_run import launch, save_config, save_model, tokenizer_of
from xtc_ds.errors import DataError
from xtc_ds.launcher import Task, get_task, register_task
from xtc_ds.launcher.tasks import registry, task_names, unregister_task

QUICK = ("--max_steps", "3", "--teacher_max_steps", "2", "--per_device_eval_batch_size", "4")
LOGITS = {"logits_weight": 1, "hidden_weight": 0, "attention_weight": 0}
# Encoder and decoder are two stacks of layers, of which layer reduction would need one named.
ONE_STACK = tiny.block(reduction={"keep_number_layer": 2}, kd={}, exclude=["embed|lm_head"])
TWO_STACKS = tiny.block(activation=None, kd=LOGITS, exclude=["embed|shared", "lm_head"])


@pytest.fixture
def registered(request: pytest.FixtureRequest) -> Iterator[Task]:
    """A task as a user's script registers it."""
    task: Task = request.param
    register_task(task)
    yield task
    unregister_task(task.name)


def save(task: Task, folder: Path) -> str:
    """A tiny pretrained model for the task."""
    made = {"reversal": toy_tasks.bart, "next-word": toy_tasks.llama}.get(task.name)
    if made is None:
        return save_model(folder)
    torch.manual_seed(1)
    made().save_pretrained(folder)
    tokenizer_of().save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
@pytest.mark.usefixtures("single_process_group")
@pytest.mark.parametrize(
    ("registered", "block", "shown"),
    [
        (toy_tasks.TOPICS, None, "f1 "),
        (toy_tasks.LENGTHS, None, "accuracy "),
        (toy_tasks.REVERSAL, TWO_STACKS, "accuracy "),
        (toy_tasks.NEXT_WORD, ONE_STACK, "perplexity "),
    ],
    indirect=["registered"],
    ids=lambda value: value.name if isinstance(value, Task) else "",
)  # fmt: skip
def test_from_start_to_packed(
    registered: Task, block: Any, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = save(registered, tmp_path / "model"), tmp_path / "out"
    flags = ["--task_name", registered.name, "--model_name_or_path", model, "--output_dir", out, *QUICK]
    assert launch("--ds_config", save_config(tmp_path / "c.json", block), *flags) == 0
    assert f"teacher: {shown}" in capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())
    assert results["metric"] == registered.headline
    assert results["student"].keys() == {registered.headline, "headline"}
    assert results["max_logit_difference"] <= 1e-5
    packed = getattr(transformers, registered.auto_class).from_pretrained(out / "packed")
    assert {name: getattr(packed.config, name) for name in registered.model_config()} == registered.model_config()
    teacher = xtc_ds.load_teacher(str(out / "teacher"), packed)
    assert type(teacher).__name__ == json.loads((out / "teacher" / "config.json").read_text())["architectures"][0]


def test_a_task_has_flags_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    register_task(toy_tasks.REVERSAL)
    try:
        with pytest.raises(SystemExit):
            launch("--help", "--task_name", "reversal")
        assert "--beams" in capsys.readouterr().out
        with pytest.raises(SystemExit):
            launch("--ds_config", "x.json", "--beams", "2")
        assert "unrecognized arguments: --beams" in capsys.readouterr().err
    finally:
        unregister_task("reversal")


def test_names_are_taken_once() -> None:
    register_task(toy_tasks.TOPICS)
    register_task(toy_tasks.TOPICS)
    with pytest.raises(DataError, match="a task called 'topics' is registered already, as a Topics"):
        register_task(toy_tasks.Topics())
    assert get_task("TOPICS") is toy_tasks.TOPICS
    unregister_task("topics")
    with pytest.raises(DataError, match="unknown task 'topics'; the tasks are reviews, cola, mnli"):
        get_task("topics")


def brought(monkeypatch: pytest.MonkeyPatch, **entries: str) -> None:
    found = [EntryPoint(name, value, registry.ENTRY_POINTS) for name, value in entries.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: found)


def test_an_entry_point_brings_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    brought(monkeypatch, lengths="tests.extension.toy_tasks:LENGTHS")
    try:
        assert get_task("lengths") is toy_tasks.LENGTHS
        assert task_names()[-1] == "lengths"
    finally:
        unregister_task("lengths")


def test_a_broken_entry_point_stops_only_who_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    brought(monkeypatch, broken="no_such_package.tasks:TASK")
    with pytest.raises(DataError, match=r"'broken' \(no_such_package.tasks:TASK\) cannot be loaded: No module named"):
        get_task("broken")
    with pytest.warns(UserWarning, match="'broken'"), pytest.raises(DataError, match="unknown task 'nothing'"):
        get_task("nothing")
    assert get_task("sst2").name == "sst2"


@pytest.mark.slow
def test_the_script_of_the_documentation(tmp_path: Path) -> None:
    """One file with a task in it is a program; what it packs is loaded in a process that does not know the task."""
    (script,) = (block.code for block in blocks(ROOT / "docs" / "launcher.md") if block.language == "python")
    (tmp_path / "my_tasks.py").write_text(script)
    words = ("rates", "rise", "again", "late", "goal", "decides", "bonds", "fall", "match", "lost")
    model = save_model(tmp_path / "model", words=(*toy_tasks.WORDS, *words))
    ranks = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    variables = {key: value for key, value in os.environ.items() if key not in ranks} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "my_tasks.py", "--task_name", "headlines", "--model_name_or_path", model, *QUICK]
    command += ["--ds_config", save_config(tmp_path / "c.json"), "--output_dir", "out"]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    packed = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "packed")
    assert packed.config.id2label == {0: "business", 1: "sport"}
