"""A teacher is loaded with the head that its student has, whatever either's architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers as t
from distillation_models import close, tiny_config
from torch import nn

from xtc_ds.distillation.teacher import load_teacher
from xtc_ds.distillation.teacher_class import teacher_class

SMALL: dict[str, Any] = {"vocab_size": 50, "d_model": 16, "pad_token_id": 0, "decoder_start_token_id": 0}
SIDES = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in
         (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))}  # fmt: skip


def t5() -> Any:
    return t.T5ForConditionalGeneration(t.T5Config(d_kv=8, d_ff=16, num_layers=1, num_heads=2, **SMALL))


def marian() -> Any:
    return t.MarianMTModel(t.MarianConfig(**SMALL, **SIDES))


def bart() -> Any:
    return t.BartForConditionalGeneration(t.BartConfig(**SMALL, **SIDES))


@pytest.mark.parametrize("build", [t5, marian, bart])
def test_sequence_to_sequence_models_keep_their_head(build: Any, tmp_path: Path) -> None:
    import torch

    saved = build().eval()
    saved.save_pretrained(tmp_path)
    teacher = load_teacher(str(tmp_path), build())
    assert type(teacher) is type(saved)
    inputs = {"input_ids": torch.tensor([[3, 4, 5]]), "decoder_input_ids": torch.tensor([[0, 6]])}
    close(teacher(**inputs).logits, saved(**inputs).logits)


class Own(t.BertForSequenceClassification):  # type: ignore[misc]
    """A user's class around one of transformers'."""


class OwnForQuestionAnswering(nn.Module):
    """A user's class that transformers knows nothing of."""


class OwnModel(nn.Module):
    """A user's class whose name says nothing."""


def config(kind: Any, *architectures: str) -> Any:
    made = kind()
    made.architectures = list(architectures) or None
    return made


def bert(kind: Any) -> Any:
    return kind(tiny_config("bert"))


CASES: dict[str, tuple[Any, Any, Any]] = {
    "the class it was saved from": (
        config(t.BertConfig, "BertForMaskedLM"), lambda: bert(t.BertForMaskedLM), t.BertForMaskedLM
    ),
    "a student without a head": (
        config(t.BertConfig, "BertForMaskedLM"), lambda: bert(t.BertModel), t.AutoModel
    ),
    "a checkpoint without a head": (
        config(t.BertConfig, "BertModel"), lambda: bert(t.BertForMaskedLM), t.AutoModelForMaskedLM
    ),
    "a checkpoint that names no class": (
        config(t.RobertaConfig), lambda: bert(t.BertForMultipleChoice), t.AutoModelForMultipleChoice
    ),
    "another sequence-to-sequence architecture": (
        config(t.MarianConfig, "MarianMTModel"), t5, t.AutoModelForSeq2SeqLM
    ),
    "a user's subclass": (
        config(t.BertConfig, "BertForSequenceClassification"), lambda: bert(Own), t.BertForSequenceClassification
    ),
    "a user's subclass, another architecture": (
        config(t.RobertaConfig), lambda: bert(Own), t.AutoModelForSequenceClassification
    ),
    "a user's class by its name": (
        config(t.BertConfig, "BertModel"), OwnForQuestionAnswering, t.AutoModelForQuestionAnswering
    ),
    "a user's class": (config(t.BertConfig, "BertForMaskedLM"), OwnModel, t.BertForMaskedLM),
    "nothing to go by": (config(t.BertConfig), OwnModel, t.AutoModel),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_class_follows_from_the_student_and_the_checkpoint(name: str) -> None:
    teacher_config, student, expected = CASES[name]
    assert teacher_class(teacher_config, student()) is expected


@pytest.mark.parametrize(
    ("student", "teacher"), [("GPT2LMHeadModel", t.LlamaConfig), ("LlamaForCausalLM", t.GPT2Config)]
)
def test_decoders_of_another_architecture(student: str, teacher: Any) -> None:
    made = getattr(t, student)(tiny_config("gpt2" if student.startswith("GPT2") else "llama"))
    assert teacher_class(config(teacher), made) is t.AutoModelForCausalLM
