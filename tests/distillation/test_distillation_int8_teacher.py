"""A teacher of 8-bit integers: what it teaches, what it takes, what it leaves alone, and what is refused."""

from __future__ import annotations

import copy
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from distillation_models import ARCHITECTURES, batch, close, distiller, tiny_config, tiny_model, without_dropout
from torch import Tensor, nn
from transformers import BartConfig, BartForConditionalGeneration, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

import xtc_ds
from tests.tiny import block
from xtc_ds.distillation.attention_tap import disable_attention_tap, enable_attention_tap
from xtc_ds.errors import DistillationError
from xtc_ds.runtime.packed_layers import PackedEmbedding
from xtc_ds.techniques.kd import teacher_dtype
from xtc_ds.techniques.kd.int8_layers import Int8Linear
from xtc_ds.techniques.kd.teacher_dtype import check_dtype, in_dtype

LOGITS_ONLY: dict[str, Any] = {"hidden_weight": 0.0, "attention_weight": 0.0}


def teacher_and_copy(kind: str = "bert", device: str = "cpu", **more: Any) -> tuple[Any, Any]:
    teacher = without_dropout(tiny_model(kind, seed=2, **more)).eval()
    return teacher, in_dtype(teacher, "int8", device)


def tensors_of(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def memory(model: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(model))


@torch.no_grad()
def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / (expected - expected.mean()).norm())


@pytest.mark.parametrize("device", ["cpu", "cuda"])  # for cuda: codes as torch's product takes them
@pytest.mark.parametrize("kind", ARCHITECTURES)
@torch.no_grad()
def test_logits_are_near_the_float_teachers(kind: str, device: str) -> None:
    teacher, low = teacher_and_copy(kind, device, width=64)
    expected, found = teacher(**batch()).logits, low(**batch()).logits
    assert 1e-6 < distance(found, expected) < 0.15
    layers = [module for module in low.modules() if isinstance(module, Int8Linear)]
    assert len(layers) >= 2 * 4
    assert not any(type(module) is nn.Linear for module in low.base_model.modules())
    assert isinstance(low.get_input_embeddings(), PackedEmbedding)


@torch.no_grad()
def test_both_ways_to_multiply_give_the_same_numbers() -> None:
    teacher, native = teacher_and_copy()
    plain = in_dtype(teacher, "int8", "cuda")
    for name, module in native.named_modules():
        if isinstance(module, Int8Linear):
            x = torch.randn(3, 5, module.in_features)
            assert torch.equal(module(x), plain.get_submodule(name)(x))
            assert module(x.bfloat16()).dtype == torch.bfloat16
            close(module(x.half()).float(), module(x), 1e-2)


def test_memory_is_about_a_quarter() -> None:
    teacher, low = teacher_and_copy(width=128, layers=4)
    assert memory(low) < 0.3 * memory(teacher)
    assert memory(in_dtype(teacher, "int8", "cuda")) < 0.3 * memory(teacher)
    assert not any(parameter.requires_grad for parameter in low.parameters())


def test_the_users_teacher_is_left_alone() -> None:
    teacher = tiny_model("bert", seed=2).train()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    kinds, config = [type(module) for module in teacher.modules()], copy.deepcopy(teacher.config.to_dict())
    low = in_dtype(teacher, "int8")
    with torch.no_grad():
        for tensor in tensors_of(low):
            if tensor.is_floating_point():
                tensor.zero_()
    made = distiller(without_dropout(tiny_model("bert", seed=1)), low)
    made.student(**batch())
    assert [type(module) for module in teacher.modules()] == kinds
    assert teacher.config.to_dict() == config
    assert teacher.config._attn_implementation == "sdpa"
    assert teacher.training and all(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize("kind", ["attention", "probabilities", "relations"])
def test_hidden_states_and_attention_are_read_as_from_floats(kind: str) -> None:
    student = without_dropout(tiny_model("bert", seed=1))
    teacher, low = teacher_and_copy("bert")
    config: dict[str, Any] = {} if kind == "attention" else {"attention_type": kind}
    parts = []
    for used in (teacher, low):
        made = distiller(student, used, **config)
        student.zero_grad()
        student(**batch()).loss.backward()
        parts.append(made.last_parts)
        made.detach()
    assert set(parts[0]) >= {"logits", "hidden", "attention"}
    for name, expected in parts[0].items():
        assert float(parts[1][name]) == pytest.approx(float(expected), rel=0.05), name
    assert all(parameter.grad is not None for parameter in student.bert.encoder.parameters())


@pytest.mark.parametrize("left", [False, True])
@torch.no_grad()
def test_the_tap_changes_nothing(left: bool) -> None:
    _, low = teacher_and_copy("bert", width=64, heads=2)  # heads of 32: the native attention takes them
    inputs = batch(left=left)
    expected = low(**inputs).logits
    enable_attention_tap(low)
    close(low(**inputs).logits, expected)
    disable_attention_tap(low)
    close(low(**inputs).logits, expected)


@torch.no_grad()
def test_models_that_read_weights_directly_or_share_tables_run() -> None:
    sizes: dict[str, Any] = {"vocab_size": 50, "d_model": 32}
    t5 = T5ForConditionalGeneration(T5Config(**sizes, num_layers=2, num_heads=2, d_kv=16, d_ff=64)).eval()
    bart = BartForConditionalGeneration(
        BartConfig(**sizes, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
                   encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=40)
    ).eval()  # fmt: skip
    inputs = {"input_ids": batch()["input_ids"], "decoder_input_ids": batch()["input_ids"]}
    for model in (t5, bart):
        low = in_dtype(model, "int8")
        assert sum(isinstance(module, Int8Linear) for module in low.modules()) > 10
        assert 1e-6 < distance(low(**inputs).logits, model(**inputs).logits) < 0.15
    gpt2 = GPT2LMHeadModel(tiny_config("gpt2")).eval()
    low = in_dtype(gpt2, "int8")
    assert low.lm_head.weight is low.transformer.wte.weight
    assert low.lm_head.weight.is_floating_point()
    assert distance(low(batch()["input_ids"]).logits, gpt2(batch()["input_ids"]).logits) < 0.15


@torch.no_grad()
def test_copies_and_pickles_compute_the_same() -> None:
    _, low = teacher_and_copy()
    expected = low(**batch()).logits
    for twin in (copy.deepcopy(low), pickle.loads(pickle.dumps(low))):
        assert torch.equal(twin(**batch()).logits, expected)


def test_a_cache_of_another_type_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    student = without_dropout(tiny_model("bert", seed=1))
    teacher, low = teacher_and_copy()
    losses, ran = [], []
    for used in (teacher, low, in_dtype(teacher, "int8"), teacher):
        counted: list[int] = []
        hook = used.register_forward_pre_hook(lambda *_, c=counted: c.append(1))
        made = distiller(student, used, cache="logits", cache_folder=str(tmp_path), **LOGITS_ONLY)
        losses.append([float(student(**batch()).loss.detach()) for _ in range(2)])
        made.detach()
        hook.remove()
        ran.append(len(counted))
    assert ran == [1, 1, 0, 0]  # computed once in each type
    assert losses[0][0] == pytest.approx(losses[0][1]) == pytest.approx(losses[3][0])
    assert losses[1][0] == pytest.approx(losses[1][1]) == pytest.approx(losses[2][0])
    assert losses[0][0] != pytest.approx(losses[1][0], rel=1e-7)


def refused(teacher: nn.Module, device: str, *words: str) -> None:
    with pytest.raises(DistillationError) as caught:
        check_dtype(teacher, "int8", device)
    for word in ('"teacher_dtype": "int8"', *words):
        assert word in str(caught.value)
    with pytest.raises(DistillationError):
        in_dtype(teacher, "int8", device)


def test_what_cannot_be_is_refused() -> None:
    compressed = tiny_model("bert")
    xtc_ds.compress(compressed, xtc_ds.parse_block(block()))
    refused(compressed, "cpu", "compressed already", "leave it out")
    refused(xtc_ds.freeze(compressed), "cpu", "compressed already", "leave it out")
    refused(in_dtype(tiny_model("bert"), "int8"), "cpu", "compressed already")
    refused(tiny_model("bert"), "mps", "no integer product on mps", "bfloat16")
    refused(nn.Sequential(nn.Embedding(3, 4), nn.LayerNorm(4)), "cpu", "no linear layer in Sequential")
    partitioned = tiny_model("bert")
    partitioned.classifier.weight.ds_id = 1  # what ZeRO-3 leaves on a parameter
    refused(partitioned, "cpu", "partitions", "give the teacher whole")


def test_a_slow_processor_is_told_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(teacher_dtype, "cpu_multiplies_integers_fast", lambda: False)
    with caplog.at_level(logging.WARNING):
        in_dtype(tiny_model("bert"), "int8")
    assert "no fast integer product" in caplog.text
