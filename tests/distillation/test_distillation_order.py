"""When the teacher runs, and that nothing of its forward outlives the student's."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from distillation_models import batch, close, distiller, tiny_model
from torch import Tensor

from xtc_ds.distillation.distiller import Distiller


def test_the_teacher_is_done_before_the_student_starts_and_takes_none_of_its_random_numbers() -> None:
    student, teacher = tiny_model("bert", seed=1), tiny_model("bert", seed=2)
    torch.manual_seed(3)
    own = student.train()(**batch()).loss
    calls: list[str] = []
    distiller(student, teacher, hard_label_weight=1.0, logits_weight=0.0, hidden_weight=0.0, attention_weight=1e-30)
    for name, model in (("student", student), ("teacher", teacher)):
        stack = model.bert.encoder.layer
        stack[0].register_forward_pre_hook(lambda *_, name=name: calls.append(f"{name} starts"))
        stack[-1].register_forward_hook(lambda *_, name=name: calls.append(f"{name} ends"))
    torch.manual_seed(3)
    close(student(**batch()).loss, own)
    # Stopped at its last layer's attention: no loss asks for its logits.
    assert calls == ["teacher starts", "student starts", "student ends"]


@pytest.mark.parametrize("attention_type", ["scores", "relations"])
def test_what_the_teacher_computed_is_gone_after_the_forward(
    attention_type: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = tiny_model("bert", seed=1), tiny_model("bert", seed=2)
    made = distiller(student, teacher, attention_type=attention_type)
    seen: list[weakref.ref[Tensor]] = []
    parts = Distiller._parts

    def watched(self: Distiller, output: Any, captured: Any, pending: Any) -> Any:
        seen.extend(weakref.ref(record.query) for record in pending.teacher_capture.attention.values())
        return parts(self, output, captured, pending)

    monkeypatch.setattr(Distiller, "_parts", watched)
    loss = student.train()(**batch()).loss
    gc.collect()
    assert seen
    assert all(reference() is None for reference in seen)
    assert made._pending is None
    loss.backward()


def test_a_student_that_fails_leaves_nothing_of_the_teacher_behind() -> None:
    student, teacher = tiny_model("bert", seed=1), tiny_model("bert", seed=2)
    made = distiller(student, teacher)

    def fail(*_: Any) -> None:
        raise ValueError("broken")

    handle = student.bert.encoder.layer[1].register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match="broken"):
        student.train()(**batch())
    assert made._pending is None
    handle.remove()
    student(**batch()).loss.backward()
    assert made.last_parts["loss"] > 0
