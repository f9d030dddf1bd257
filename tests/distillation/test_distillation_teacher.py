"""Loading a teacher, and the reasons to refuse one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from distillation_models import ARCHITECTURES, batch, close, tiny_config, tiny_model
from transformers import BertForMaskedLM, BertModel, T5Config, T5ForConditionalGeneration

from xtc_ds.distillation.teacher import load_teacher
from xtc_ds.errors import TeacherError


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_saved_model_comes_back_frozen(kind: str, tmp_path: Path) -> None:
    saved = tiny_model(kind, seed=3).eval()
    saved.save_pretrained(tmp_path)
    teacher = load_teacher(str(tmp_path), tiny_model(kind))
    assert type(teacher) is type(saved)
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())
    close(teacher(**batch()).logits, saved(**batch()).logits)


def test_the_head_is_that_of_the_student(tmp_path: Path) -> None:
    BertForMaskedLM(tiny_config("bert")).save_pretrained(tmp_path)
    assert isinstance(load_teacher(str(tmp_path), BertForMaskedLM(tiny_config("bert"))), BertForMaskedLM)


def test_an_encoder_decoder_comes_back_with_its_head(tmp_path: Path) -> None:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    model = T5ForConditionalGeneration(T5Config(vocab_size=50, **sizes))
    model.save_pretrained(tmp_path)
    teacher = load_teacher(str(tmp_path), model)
    assert isinstance(teacher, T5ForConditionalGeneration)


def test_the_dtype_is_float32_unless_asked(tmp_path: Path) -> None:
    tiny_model("bert").bfloat16().save_pretrained(tmp_path)
    student = tiny_model("bert")
    assert {p.dtype for p in load_teacher(str(tmp_path), student).parameters()} == {torch.float32}
    assert {p.dtype for p in load_teacher(str(tmp_path), student, torch.bfloat16).parameters()} == {torch.bfloat16}


def refused(folder: Path, student: object, *words: str) -> None:
    with pytest.raises(TeacherError) as caught:
        load_teacher(str(folder), student)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(folder), *words):
        assert word in message


def test_a_missing_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", tiny_model("bert"), "no such folder")


@pytest.mark.parametrize("spec", ["", " ", "./nowhere", "~/nowhere/at/all", "one/two/three"])
def test_what_cannot_be_a_hub_id_is_not_looked_up(spec: str) -> None:
    with pytest.raises(TeacherError, match="no such folder"):
        load_teacher(spec, tiny_model("bert"))


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "teacher.bin").write_bytes(b"x")
    refused(tmp_path / "teacher.bin", tiny_model("bert"), "no such folder")


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    refused(tmp_path, tiny_model("bert"), "cannot be loaded")


def test_a_folder_without_weights(tmp_path: Path) -> None:
    tiny_config("bert").save_pretrained(tmp_path)
    refused(tmp_path, tiny_model("bert"), "cannot be loaded")


def test_a_truncated_file(tmp_path: Path) -> None:
    tiny_model("bert").save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(tmp_path, tiny_model("bert"), "cannot be loaded")


def test_other_numbers_of_labels(tmp_path: Path) -> None:
    tiny_model("bert", labels=2).save_pretrained(tmp_path)
    refused(tmp_path, tiny_model("bert", labels=3), "2 labels", "the student 3")


def test_another_vocabulary(tmp_path: Path) -> None:
    tiny_model("bert").save_pretrained(tmp_path)
    student = tiny_model("bert")
    student.config.vocab_size = 60
    refused(tmp_path, student, "50 tokens", "60")


def test_a_checkpoint_without_the_head_is_not_given_a_random_one(tmp_path: Path) -> None:
    BertModel(tiny_config("bert")).save_pretrained(tmp_path)
    refused(tmp_path, tiny_model("bert"), "classifier.bias", "random")


def test_a_head_of_another_shape(tmp_path: Path) -> None:
    saved = tiny_model("bert", labels=2)
    saved.config.num_labels = 3
    saved.save_pretrained(tmp_path)
    refused(tmp_path, tiny_model("bert", labels=3), "classifier", "another shape")
