"""The distiller on whole models, one process."""

from __future__ import annotations

import copy
import gc
import io
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from distillation_models import ARCHITECTURES, ENCODERS, batch, close, distiller, kd, tiny_model, without_dropout
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from xtc_ds.distillation.check import check_distillation
from xtc_ds.distillation.distiller import Distiller
from xtc_ds.distillation.projection import PROJECTION_NAME, strip_projection
from xtc_ds.errors import ConfigError, DistillationError
from xtc_ds.plan import find_layer_stack

KINDS = ("scores", "probabilities", "relations")


@pytest.mark.parametrize("attention_type", KINDS)
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_student_equal_to_the_teacher_has_nothing_to_learn(kind: str, attention_type: str) -> None:
    student = without_dropout(tiny_model(kind))
    teacher = copy.deepcopy(student)
    made = distiller(student, teacher, attention_type=attention_type, temperature=2.0)
    output = student(**batch())
    output.loss.backward()
    assert set(made.last_parts) == {"loss", "logits", "hidden", "attention", "hard"}
    for part in ("loss", "logits", "hidden", "attention"):
        assert abs(float(made.last_parts[part])) < 1e-5, part
    largest = max(float(p.grad.abs().max()) for p in student.parameters() if p.grad is not None)
    assert largest < 1e-4


# DistilBERT takes no positions, so left padding would move its tokens.
SIDES = [(kind, left) for kind in ARCHITECTURES for left in (False, True) if (kind, left) != ("distilbert", True)]


@pytest.mark.parametrize("attention_type", KINDS)
@pytest.mark.parametrize(("kind", "left"), SIDES, ids=[f"{kind}-{'left' if left else 'right'}" for kind, left in SIDES])
def test_more_padding_changes_no_part(kind: str, left: bool, attention_type: str) -> None:
    student, teacher = without_dropout(tiny_model(kind, seed=1)), tiny_model(kind, seed=2, layers=4)
    # Encoders classify their first position, which is padding when that is on the left.
    logits_weight = 0.0 if left and kind in ENCODERS else 1.0
    made = distiller(student, teacher, attention_type=attention_type, logits_weight=logits_weight)
    parts = []
    for total in (7, 12):
        inputs = batch(total=total, left=left)
        if kind not in ("distilbert", "roberta"):  # RoBERTa counts positions from the first token itself
            inputs["position_ids"] = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        student(**inputs)
        parts.append(dict(made.last_parts))
    for name in ("hidden", "attention", "loss"):
        assert float(parts[0][name]) > 1e-3
        close(parts[0][name], parts[1][name], 1e-4)


def test_the_loss_is_the_weighted_sum_of_the_parts() -> None:
    student, teacher = without_dropout(tiny_model("bert", seed=1)), tiny_model("bert", seed=2, layers=4)
    weights = {"logits_weight": 0.5, "hidden_weight": 0.25, "attention_weight": 2.0, "hard_label_weight": 3.0}
    made = distiller(student, teacher, (1, 3), **weights)
    output = student(**batch())
    parts = made.last_parts
    assert all(not part.requires_grad for part in parts.values())
    names = ("logits", "hidden", "attention")
    expected = sum(weights[f"{name}_weight"] * parts[name] for name in names) + 3.0 * parts["hard"]
    close(output.loss, expected)
    hard = nn.functional.cross_entropy(output.logits, batch()["labels"])
    close(parts["hard"], hard.detach())
    assert output[0] is output.loss


def test_parts_equal_xtc_formulas_without_padding() -> None:
    student, teacher = without_dropout(tiny_model("bert", seed=1)), tiny_model("bert", seed=2, layers=4).eval()
    inputs = batch((7, 7))
    with torch.no_grad():
        ours, theirs = (m(**inputs, output_hidden_states=True).hidden_states for m in (student, teacher))
    made = distiller(student, teacher, (1, 3))
    student(**inputs)
    expected = sum(((ours[i] - theirs[j]) ** 2).mean() for i, j in ((0, 0), (1, 2), (2, 4)))
    close(made.last_parts["hidden"], expected)


@pytest.mark.parametrize("part", ["logits", "hidden", "attention"])
def test_only_what_has_weight_is_computed(part: str) -> None:
    weights = {f"{name}_weight": float(name == part) for name in ("logits", "hidden", "attention")}
    student, teacher = tiny_model("bert", seed=1), tiny_model("bert", seed=2)
    made = distiller(student, teacher, **weights)
    inputs = batch()
    del inputs["labels"]
    output = student(**inputs)
    assert set(made.last_parts) == {"loss", part}
    output.loss.backward()
    assert (student.config._attn_implementation == "xtc_tap") == (part == "attention")


def test_evaluation_and_no_grad_are_untouched() -> None:
    student, teacher = without_dropout(tiny_model("bert", seed=1)), tiny_model("bert", seed=2)
    expected = student(**batch()).loss
    made = distiller(student, teacher)
    with torch.no_grad():
        close(student(**batch()).loss, expected)
    student.eval()
    close(student(**batch()).loss, expected, 1e-4)
    assert made.last_parts == {}


def test_the_teacher_is_frozen_and_never_part_of_the_student() -> None:
    student, teacher = tiny_model("bert", seed=1), tiny_model("bert", seed=2)
    names = set(student.state_dict())
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    made = distiller(student, teacher)
    teacher.train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(2):
        student(**batch()).loss.backward()
        optimizer.step()
    assert set(student.state_dict()) == names
    assert not teacher.training
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    assert made.projection_parameters() == []


def test_copies_and_pickles_of_the_student_leave_the_teacher_behind() -> None:
    student, teacher = without_dropout(tiny_model("bert", seed=1)), tiny_model("bert", seed=2)
    plain = float(student(**batch()).loss.detach())
    distiller(student, teacher)
    gc.collect()
    twin = copy.deepcopy(student)
    file = io.BytesIO()
    torch.save(student, file)
    assert file.tell() < 1.6 * sum(p.numel() * 4 for p in student.parameters())
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    for copied in (twin, loaded):
        close(copied(**batch()).loss, plain)
    assert float(student(**batch()).loss.detach()) != pytest.approx(plain)


def test_student_and_teacher_are_freed_together() -> None:
    student, teacher = tiny_model("bert", seed=1), tiny_model("bert", seed=2)
    distiller(student, teacher)
    student(**batch()).loss.backward()
    gone = [weakref.ref(student), weakref.ref(teacher)]
    del student, teacher
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_detach_gives_the_plain_student_back() -> None:
    student, teacher = without_dropout(tiny_model("bert", seed=1)), tiny_model("bert", seed=2)
    plain = student(**batch()).loss
    made = distiller(student, teacher)
    made.attach()  # a second time is nothing
    made.detach()
    close(student(**batch()).loss, plain)
    assert student.config._attn_implementation == teacher.config._attn_implementation == "sdpa"
    assert not student._forward_hooks
    assert not student._forward_pre_hooks


def test_widths_that_differ_get_a_projection_that_is_not_saved(tmp_path: Path) -> None:
    student = without_dropout(tiny_model("bert", width=16, seed=1))
    teacher = tiny_model("bert", width=32, layers=4, seed=2)
    made = distiller(student, teacher, attention_type="scores")
    weight, bias = made.projection_parameters()
    assert weight.shape == (32, 16)
    student(**batch()).loss.backward()
    assert float(weight.grad.abs().max()) > 0
    assert bias.grad is not None
    assert f"{PROJECTION_NAME}.weight" in student.state_dict()  # training checkpoints carry it
    student.save_pretrained(tmp_path)
    reloaded, report = type(student).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    strip_projection(student)
    strip_projection(student)
    assert set(student.state_dict()) == set(reloaded.state_dict())


def test_no_projection_without_a_hidden_part() -> None:
    student, teacher = tiny_model("bert", width=16), tiny_model("bert", width=32)
    assert distiller(student, teacher, hidden_weight=0.0).projection_parameters() == []


def test_heads_that_differ_need_relations() -> None:
    student, teacher = tiny_model("bert", heads=2), tiny_model("bert", heads=4)
    with pytest.raises(ConfigError, match="found 2 in the student and 4") as caught:
        distiller(student, teacher)
    assert caught.value.problems[0].path == "compression_training.kd.attention_type"
    made = distiller(student, teacher, attention_type="relations")
    student(**batch()).loss.backward()
    assert float(made.last_parts["attention"]) > 0


def test_relations_across_widths_and_architectures() -> None:
    student, teacher = tiny_model("gpt2", width=16, heads=2), tiny_model("llama", width=32, heads=4)
    made = distiller(student, teacher, attention_type="relations")
    student(**batch()).loss.backward()
    assert all(bool(torch.isfinite(part)) for part in made.last_parts.values())


def test_a_student_of_another_architecture_shares_what_inputs_it_can() -> None:
    student, teacher = tiny_model("bert"), tiny_model("distilbert")
    made = distiller(student, teacher)
    inputs = batch()
    student(**inputs, token_type_ids=torch.zeros_like(inputs["input_ids"])).loss.backward()
    assert float(made.last_parts["hidden"]) > 0


def test_positional_inputs_reach_the_teacher() -> None:
    student, teacher = without_dropout(tiny_model("bert", seed=1)), tiny_model("bert", seed=2)
    made = distiller(student, teacher)
    inputs = batch()
    student(**inputs)
    by_name = dict(made.last_parts)
    student(inputs["input_ids"], inputs["attention_mask"])
    close(made.last_parts["hidden"], by_name["hidden"])


def test_regression_compares_the_numbers() -> None:
    student = without_dropout(tiny_model("bert", seed=1, labels=1))
    teacher = tiny_model("bert", seed=2, labels=1).eval()
    inputs = batch(labels=1)
    made = distiller(student, teacher, temperature=3.0)
    output = student(**inputs)
    close(made.last_parts["logits"], ((output.logits - teacher(**inputs).logits) ** 2).mean().detach())


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("attention_type", KINDS)
def test_gradient_checkpointing_gives_the_same_gradients(kind: str, attention_type: str) -> None:
    gradients = []
    for checkpointed in (False, True):
        student, teacher = without_dropout(tiny_model(kind, seed=1)), tiny_model(kind, seed=2, layers=4)
        made = distiller(student, teacher, attention_type=attention_type)
        if checkpointed:
            student.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        for _ in range(2):  # gradient accumulation
            student(**batch()).loss.backward()
        assert float(made.last_parts["attention"]) > 0
        gradients.append({n: p.grad for n, p in student.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        close(gradients[1][name], gradient, 1e-4)


def test_reentrant_checkpointing_is_refused_not_silently_wrong() -> None:
    student, teacher = tiny_model("bert", seed=1), tiny_model("bert", seed=2)
    distiller(student, teacher)
    student.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    student.enable_input_require_grads()
    with pytest.raises(DistillationError, match="use_reentrant"):
        student(**batch())


def test_half_precision_losses_are_float32() -> None:
    student, teacher = tiny_model("bert", seed=1).bfloat16(), tiny_model("bert", seed=2)
    made = distiller(student, teacher)
    assert student(**batch()).loss.dtype == torch.float32
    assert all(part.dtype == torch.float32 for name, part in made.last_parts.items() if name != "hard")


@pytest.mark.parametrize("width", [16, 32])
def test_losses_stay_float32_under_autocast(width: int) -> None:
    student, teacher = without_dropout(tiny_model("bert", width=width, seed=1)), tiny_model("bert", seed=2)
    made = distiller(student, teacher)
    student(**batch()).loss.backward()
    exact = dict(made.last_parts)
    with torch.autocast("cpu", torch.bfloat16):
        student(**batch()).loss.backward()
    for name in ("logits", "hidden", "attention", "loss"):
        assert made.last_parts[name].dtype == torch.float32
        close(made.last_parts[name], exact[name], 0.1)


def test_bad_teachers_are_refused() -> None:
    student = tiny_model("bert")
    stack = find_layer_stack(student).layers
    for teacher in (student, student.bert):
        with pytest.raises(DistillationError, match="give a copy"):
            check_distillation(student, teacher, kd(), len(stack), len(stack))
    sharing = tiny_model("bert")
    sharing.bert.embeddings = student.bert.embeddings
    with pytest.raises(DistillationError, match="share the parameter"):
        check_distillation(student, sharing, kd(), 2, 2)
    assert all(p.requires_grad for p in student.parameters())


def test_a_teacher_with_broken_weights_is_found_at_the_first_step() -> None:
    student, teacher = tiny_model("bert", seed=1), tiny_model("bert", seed=2)
    with torch.no_grad():
        teacher.classifier.weight.fill_(float("nan"))
    distiller(student, teacher)
    with pytest.raises(DistillationError, match="not finite"):
        student(**batch())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"return_dict": False}, "return_dict"),
        ({"labels": None}, "hard_label_weight"),
        ({"input_ids": None, "inputs_embeds": torch.zeros(3, 7, 32)}, "input_ids"),
        ({"attention_mask": torch.ones(3, 1, 7, 7)}, r"\(batch, length\)"),
    ],
)
def test_calls_that_cannot_be_distilled_say_why(change: dict[str, Any], words: str) -> None:
    student, teacher = tiny_model("bert", seed=1), tiny_model("bert", seed=2)
    distiller(student, teacher, hard_label_weight=1.0)
    with pytest.raises(DistillationError, match=words):
        student(**{**batch(), **change})
    assert student(**batch()).loss.requires_grad  # and the next call works


def test_a_forward_that_fails_leaves_no_hooks() -> None:
    student, teacher = tiny_model("bert", seed=1), tiny_model("bert", seed=2)
    distiller(student, teacher)
    with pytest.raises(IndexError):
        student(input_ids=torch.full((1, 3), 10_000))
    assert not any(layer._forward_hooks for layer in find_layer_stack(student).layers)
    assert student(**batch()).loss.requires_grad


class DictModel(nn.Module):
    """Not a transformers model: layers and a dict."""

    def __init__(self, answer: type = dict) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.GELU()) for _ in range(2))
        self.answer = answer

    def forward(self, x: torch.Tensor) -> Any:
        for layer in self.layers:
            x = layer(x)
        return self.answer(logits=x.mean(1))


def test_models_that_return_dicts() -> None:
    student, teacher = DictModel(), DictModel()
    config = kd(attention_weight=0.0)
    made = Distiller(student, teacher, config, student.layers, teacher.layers)
    made.attach()
    output = student(x=torch.randn(2, 3, 4))
    assert list(output) == ["loss", "logits"]
    output["loss"].backward()


def test_an_output_without_logits_is_refused() -> None:
    student, teacher = DictModel(SequenceClassifierOutput), DictModel(lambda logits: {"scores": logits})  # type: ignore[arg-type]
    made = Distiller(student, teacher, kd(attention_weight=0.0), student.layers, teacher.layers)
    made.attach()
    with pytest.raises(DistillationError, match="teacher returned no logits"):
        student(x=torch.randn(2, 3, 4))


def test_attention_of_unknown_models_is_refused_before_anything_changes() -> None:
    student, teacher = DictModel(), DictModel()
    made = Distiller(student, teacher, kd(), student.layers, teacher.layers)
    with pytest.raises(DistillationError, match='"attention_weight": 0'):
        made.attach()
    assert not student._forward_hooks
