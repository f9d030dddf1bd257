"""What the teacher costs: its own type, no more layers than asked for, and logits that are computed once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from distillation_models import batch, close, distiller, kd, tiny_model, without_dropout
from torch import nn

from xtc_ds.distillation.logits_cache import LogitsCache, example_keys, teacher_fingerprint
from xtc_ds.errors import ConfigError, DistillationError
from xtc_ds.techniques.kd.teacher_dtype import in_dtype

LOGITS_ONLY: dict[str, Any] = {"hidden_weight": 0.0, "attention_weight": 0.0}


def pair(**more: Any) -> tuple[Any, Any]:
    return without_dropout(tiny_model("bert", seed=1, **more)), without_dropout(tiny_model("bert", seed=2, **more))


def calls(module: nn.Module) -> list[int]:
    counted: list[int] = []
    module.register_forward_pre_hook(lambda *_: counted.append(1))
    return counted


def cached(student: Any, teacher: Any, folder: Path) -> Any:
    return distiller(student, teacher, cache="logits", cache_folder=str(folder), **LOGITS_ONLY)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_teacher_of_another_type_teaches_nearly_the_same(dtype: torch.dtype) -> None:
    student, teacher = pair()
    config: dict[str, Any] = {"attention_type": "probabilities"}
    expected = distiller(student, teacher, **config)
    whole = student(**batch()).loss
    expected.detach()
    name = str(dtype).removeprefix("torch.")
    low = in_dtype(teacher, name)
    assert low is not teacher
    assert {p.dtype for p in teacher.parameters()} == {torch.float32}
    assert {p.dtype for p in low.parameters()} == {dtype}
    assert teacher.config.dtype != dtype
    distiller(student, low, teacher_dtype=name, **config)
    loss = student(**batch()).loss
    assert loss.dtype == torch.float32
    close(loss, whole, 0.05)
    assert not torch.equal(loss, whole)
    loss.backward()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(student(**batch()).loss)


def test_a_teacher_that_has_the_type_is_not_copied() -> None:
    teacher = tiny_model("bert")
    assert in_dtype(teacher, None) is teacher
    assert in_dtype(teacher, "float32") is teacher


def test_without_logits_the_teacher_stops_at_the_last_layer_that_a_loss_asks_for() -> None:
    student, teacher = pair(layers=4)
    classifier, last = calls(teacher.classifier), calls(teacher.bert.encoder.layer[3])
    made = distiller(student, teacher, logits_weight=0.0, layer_map=(0, 1, 1, 2))
    found = student(**batch()).loss
    assert (len(classifier), len(last)) == (0, 0)
    made.detach()
    whole = distiller(student, teacher, logits_weight=1e-30, layer_map=(0, 1, 1, 2))
    close(found, student(**batch()).loss)
    assert (len(classifier), len(last)) == (1, 1)
    whole.detach()
    assert not teacher.bert.encoder.layer[0]._forward_hooks


def test_a_teacher_that_no_loss_looks_at_does_not_run() -> None:
    student, teacher = pair()
    ran = calls(teacher)
    distiller(student, teacher, logits_weight=0.0, hard_label_weight=1.0, **LOGITS_ONLY)
    assert student(**batch()).loss.requires_grad
    assert not ran


def test_cached_logits_spare_the_teacher_in_any_order_and_padding(tmp_path: Path) -> None:
    student, teacher = pair()
    ran = calls(teacher)
    made = cached(student, teacher, tmp_path / "cache")
    first = student(**batch()).loss
    assert len(ran) == 1
    close(student(**batch()).loss, first)
    close(student(**batch(total=9)).loss, first)
    wider = {name: value.flip(0) for name, value in batch(left=False).items()}
    close(student(**wider).logits, student(**batch()).logits.flip(0))
    assert len(ran) == 1
    student(**batch(lengths=(5, 4, 6))).loss.backward()  # a new example among known ones
    assert len(ran) == 2
    made.detach()
    # Another process, or another rank, finds what was written.
    again, other = cached(student, teacher, tmp_path / "cache"), calls(teacher)
    close(student(**batch()).loss, first)
    assert not other
    again.detach()


def test_a_damaged_cache_is_named_and_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    student, teacher = pair()
    made = cached(student, teacher, tmp_path)
    expected = student(**batch()).loss
    student(**batch())
    made.detach()
    (file,) = tmp_path.rglob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    ran = calls(teacher)
    made = cached(student, teacher, tmp_path)
    with caplog.at_level(logging.WARNING):
        close(student(**batch()).loss, expected)
    assert len(ran) == 1
    assert str(file) in caplog.text
    student(**batch())
    assert list(tmp_path.rglob("*.safetensors")) != [file]
    made.detach()
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:40])
    cached(student, teacher, tmp_path)
    close(student(**batch()).loss, expected)
    assert len(ran) == 2


def test_logits_of_another_teacher_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    student, teacher = pair()
    cached(student, teacher, tmp_path)
    first = student(**batch()).loss
    student(**batch())
    with torch.no_grad():
        teacher.classifier.bias[0] += 1
    other, _ = pair()
    ran = calls(teacher)
    with caplog.at_level(logging.WARNING):
        cached(other, teacher, tmp_path)
        changed = other(**batch()).loss
    assert len(ran) == 1
    assert "of another teacher" in caplog.text
    assert not torch.allclose(changed, first)


def test_several_processes_share_a_folder(tmp_path: Path) -> None:
    teacher = tiny_model("bert")
    one, two = LogitsCache(tmp_path), LogitsCache(tmp_path)
    keys = [row.to_bytes(16, "little") for row in range(600)]
    logits = torch.randn(600, 3)
    assert one.get(keys[:2], teacher) is two.get(keys[:2], teacher) is None
    one.put(keys[:300], logits[:300])
    two.put(keys[300:], logits[300:].bfloat16())
    for cache in (one, two, LogitsCache(tmp_path)):
        found = cache.get(keys, teacher)
        assert found is not None
        assert torch.equal(found[:300], logits[:300])
    assert not list(tmp_path.rglob("*.part"))


def test_examples_are_told_apart() -> None:
    inputs = {"input_ids": torch.tensor([[5, 6, 0], [5, 6, 0], [5, 6, 7]]), "token_type_ids": torch.zeros(3, 3).long()}
    inputs["attention_mask"] = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 1, 1]])
    first = example_keys(inputs)
    assert len(set(first)) == 3
    inputs["token_type_ids"] = torch.ones(3, 3).long()
    assert not set(first) & set(example_keys(inputs))
    with pytest.raises(DistillationError, match="bbox has another shape"):
        example_keys({**inputs, "bbox": torch.zeros(3, 3, 4)})
    assert teacher_fingerprint(tiny_model("bert")) == teacher_fingerprint(tiny_model("bert"))
    assert teacher_fingerprint(tiny_model("bert")) != teacher_fingerprint(tiny_model("bert").bfloat16())


def test_what_cannot_be_cached_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kd\.cache_folder: .*needs a folder"):
        distiller(*pair(), cache="logits", **LOGITS_ONLY)
    blocked = tmp_path / "file"
    blocked.write_text("x")
    student, teacher = pair()
    cached(student, teacher, blocked)
    with pytest.raises(DistillationError, match="cannot be used"):
        student(**batch())
    assert kd().cache == "none"
