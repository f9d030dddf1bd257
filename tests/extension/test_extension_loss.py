"""A loss that is registered from outside the package works like the built-in ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import xtc_ds
from tests.distillation.distillation_models import batch, close, distiller, kd, tiny_model, without_dropout
from tests.extension.toy_losses import CosineLoss, LastStateLoss
from tests.tiny import ds_config
from xtc_ds.distillation import registry
from xtc_ds.distillation.registry import distillation_losses, register_loss
from xtc_ds.errors import ConfigError

HERE = Path(__file__).parent


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    distillation_losses()
    monkeypatch.setattr(registry, "_losses", dict(registry._losses))
    register_loss(CosineLoss)
    register_loss(LastStateLoss)


@pytest.mark.usefixtures("toys")
def test_its_keys_stand_in_the_block_with_all_that_belongs_to_a_key() -> None:
    properties = xtc_ds.schema()["properties"]["kd"]["properties"]
    assert properties["cosine_weight"]["maximum"] == 1e6
    assert properties["last_state_norm"]["enum"] == ["l1", "l2"]
    with pytest.raises(ConfigError, match="last_state_nrom: unknown key.*did you mean 'last_state_norm'"):
        kd(last_state_nrom="l1")
    with pytest.raises(ConfigError, match="cosine_weight.*from 0 to 1000000"):
        kd(cosine_weight=-1)
    with pytest.raises(ConfigError, match="all weights are 0.*cosine_weight, last_state_weight > 0"):
        kd(logits_weight=0, hidden_weight=0, attention_weight=0)
    with pytest.raises(ConfigError, match="last_state_weight > 0 needs the teacher in every step"):
        kd(hidden_weight=0, attention_weight=0, last_state_weight=1, cache="logits")
    (warning,) = xtc_ds.parse_block({"kd": {"enabled": True, "last_state_norm": "l1"}}).warnings
    assert str(warning).endswith('kd.last_state_norm: has no effect while last_state_weight is 0; found "l1"')


@pytest.mark.usefixtures("toys")
def test_it_is_one_more_term_and_the_others_stay_as_they_are() -> None:
    parts = []
    for more in ({}, {"cosine_weight": 2.0, "last_state_weight": 0.5, "last_state_norm": "l1"}):
        student, teacher = without_dropout(tiny_model("bert", seed=1)), tiny_model("bert", seed=2, layers=4).eval()
        made = distiller(student, teacher, (1, 3), **more)
        loss = student(**batch()).loss
        loss.backward()
        parts.append(dict(made.last_parts))
    with torch.no_grad():
        ours, theirs = (m.bert(batch()["input_ids"], batch()["attention_mask"])[0] for m in (student, teacher))
    valid = batch()["attention_mask"].bool()
    close(parts[1]["last_state"], (ours - theirs)[valid].abs().mean(), 1e-4)
    assert all(parts[0][name] == parts[1][name] for name in ("logits", "hidden", "attention", "hard"))
    more = 2 * parts[1]["cosine"] + 0.5 * parts[1]["last_state"]
    close(parts[1]["loss"], parts[0]["loss"] + more)


@pytest.mark.usefixtures("toys", "single_process_group")
def test_it_trains_alone_under_the_engine() -> None:
    weights = {"logits_weight": 0, "hidden_weight": 0, "attention_weight": 0, "last_state_weight": 1}
    config = ds_config({"kd": {"enabled": True, **weights}}, optimizer={"type": "SGD", "params": {"lr": 0.1}})
    model = without_dropout(tiny_model("bert", seed=1))
    teacher = tiny_model("bert", seed=2)
    engine = xtc_ds.initialize(model=model, teacher=teacher, config=config, model_parameters=model.parameters())[0]
    losses = []
    for _ in range(5):
        loss = engine(**batch()).loss
        engine.backward(loss)
        engine.step()
        losses.append(float(loss.detach()))
        assert set(engine.xtc.loss_parts()) == {"loss", "last_state", "hard"}
    assert losses[-1] < losses[0]
    engine.destroy()


@pytest.mark.usefixtures("toys")
def test_a_name_or_a_key_that_is_taken_is_refused() -> None:
    with pytest.raises(ConfigError, match="'cosine': the name is taken"):
        register_loss(CosineLoss)
    with pytest.raises(ConfigError, match="'hard': the name is taken"):
        register_loss(type("Hard", (CosineLoss,), {"name": "hard"}))
    register_loss(type("Other", (CosineLoss,), {"name": "other"}))
    with pytest.raises(ConfigError, match="bring the key cosine_weight"):
        kd()


def test_an_entry_point_brings_one_and_the_config_is_still_read_without_torch(tmp_path: Path) -> None:
    (tmp_path / "my_losses.py").write_text(
        (HERE / "toy_losses.py").read_text()
        + "\nfrom xtc_ds.distillation import register_loss\nregister_loss(CosineLoss)\n"
    )
    about = tmp_path / "my_losses-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-losses\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[xtc_ds.distillation_losses]\nmine = my_losses\n")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"compression_training": {"kd": {"enabled": True, "cosine_weight": 3}}}))
    code = (
        "import sys, xtc_ds\n"
        f"kd = xtc_ds.load_config({str(config)!r})[1].kd\n"
        "print(kd.losses[-1].name, kd.losses[-1].weight, 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert found.stdout.split() == ["cosine", "3.0", "False"], found.stderr
    (about / "entry_points.txt").write_text("[xtc_ds.distillation_losses]\nmine = not_there\n")
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "the entry point mine = not_there (xtc_ds.distillation_losses) cannot be imported" in found.stderr
