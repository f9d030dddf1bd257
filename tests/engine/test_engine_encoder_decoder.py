"""Distillation of models with two stacks: the config names one, and positions are those of that stack."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import xtc_ds
from tests.tiny import ds_config
from xtc_ds.errors import DistillationError, PlanError

pytestmark = pytest.mark.usefixtures("single_process_group")


def tiny_t5(seed: int, layers: int = 2) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes: dict[str, Any] = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": layers, "num_heads": 2}
    config = T5Config(vocab_size=100, decoder_start_token_id=0, dropout_rate=0.0, **sizes)
    torch.manual_seed(seed)
    return T5ForConditionalGeneration(config)


def tiny_bart(seed: int, layers: int = 2, whole: bool = True) -> Any:
    import transformers as t

    sides = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in
             (("layers", layers), ("attention_heads", 2), ("ffn_dim", 64))}  # fmt: skip
    config = t.BartConfig(
        vocab_size=100, d_model=32, max_position_embeddings=32, dropout=0.0, pad_token_id=1, eos_token_id=2, **sides
    )  # fmt: skip
    torch.manual_seed(seed)
    return (t.BartForConditionalGeneration if whole else t.BartForSequenceClassification)(config)


STACKS = {"t5": ("encoder.block", "decoder.block"), "bart": ("model.encoder.layers", "model.decoder.layers")}
MODELS: dict[str, Any] = {"t5": tiny_t5, "bart": tiny_bart}


def batch(padding: int = 0) -> dict[str, Tensor]:
    """Seven tokens in and five out, of which the last rows' end is padding."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 100, (4, 7), generator=generator)
    labels = torch.randint(3, 100, (4, 5), generator=generator)
    mask = torch.ones_like(ids)
    ids[-1, -2:], mask[-1, -2:], labels[-1, -1:] = 1, 0, -100
    return {"input_ids": ids, "attention_mask": mask, "labels": F.pad(labels, (0, padding), value=-100)}


def engine_of(model: Any, teacher: Any, reduction: dict[str, Any] | None = None, **kd: Any) -> Any:
    values = {"attention_weight": 0, "hidden_weight": 1, "logits_weight": 1, **kd}
    compression: dict[str, Any] = {"kd": {"enabled": True, **values}}
    if reduction:
        compression["layer_reduction"] = {"enabled": True, **reduction}
    config = ds_config(compression, optimizer={"type": "SGD", "params": {"lr": 0.05}})
    return xtc_ds.initialize(model=model, teacher=teacher, config=config, model_parameters=list(model.parameters()))[0]


def states(model: Any, side: str) -> tuple[Tensor, ...]:
    """Hidden states as the model itself reports them."""
    found: tuple[Tensor, ...] = model(**batch(), output_hidden_states=True)[f"{side}_hidden_states"]
    return found


@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_named_stack_is_distilled(kind: str, side: str) -> None:
    student, teacher = MODELS[kind](1), MODELS[kind](2)
    with torch.no_grad():
        pairs = list(zip(states(student, side)[:2], states(teacher, side)[:2], strict=True))
        valid = batch()["attention_mask"].bool() if side == "encoder" else batch()["labels"] != -100
        expected = sum(float(((ours - theirs)[valid] ** 2).mean()) for ours, theirs in pairs)
    engine = engine_of(student, teacher, module_name_prefix=STACKS[kind][side == "decoder"])
    losses, parts = [], []
    for _ in range(4):
        loss = engine(**batch()).loss
        engine.backward(loss)
        engine.step()
        losses.append(float(loss.detach()))
        parts.append(engine.xtc.loss_parts())
    assert losses[-1] < losses[0]
    distiller = engine.xtc.distiller
    assert distiller._student_tap.stack is student.get_submodule(STACKS[kind][side == "decoder"])
    # The last state is that of the stack's last layer, before its norm.
    assert 0 < expected < parts[0]["hidden"]
    assert set(parts[0]) == {"loss", "logits", "hidden", "hard"}
    engine.destroy()


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("kind", MODELS)
def test_padded_targets_count_for_nothing(kind: str, side: int) -> None:
    parts = []
    for padding in (0, 3):
        student, teacher = MODELS[kind](1), MODELS[kind](2)
        engine = engine_of(student, teacher, module_name_prefix=STACKS[kind][side], attention_weight=1)
        engine(**batch(padding))
        parts.append(engine.xtc.loss_parts())
        engine.destroy()
    assert all(value > 0 for value in parts[0].values())
    assert parts[0] == pytest.approx(parts[1], rel=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_the_teacher_reads_the_students_targets(kind: str) -> None:
    engine = engine_of(MODELS[kind](1), "self", module_name_prefix=STACKS[kind][1], attention_weight=1)
    engine(**batch())
    parts = engine.xtc.loss_parts()
    assert abs(parts["logits"]) < 1e-5
    assert max(parts["hidden"], parts["attention"]) < 1e-10
    engine.destroy()


@pytest.mark.parametrize("kind", MODELS)
def test_the_stack_must_be_named(kind: str) -> None:
    with pytest.raises(PlanError, match=r"kd: several lists of layers: .*; name one in module_name_prefix"):
        engine_of(MODELS[kind](1), MODELS[kind](2))
    with pytest.raises(PlanError, match=r"kd.module_name_prefix: 'decoder.blocks' is not a list of layers"):
        engine_of(MODELS[kind](1), MODELS[kind](2), module_name_prefix="decoder.blocks")


@pytest.mark.parametrize("kd_side", [0, 1, None])
def test_one_stack_is_reduced_and_one_distilled(kd_side: int | None) -> None:
    student = tiny_t5(1, layers=4)
    names = {} if kd_side is None else {"module_name_prefix": STACKS["t5"][kd_side]}
    reduction = {"module_name_prefix": "decoder.block", "teacher_layer": [0, 2]}
    engine = engine_of(student, "self", reduction=reduction, **names)
    assert (len(student.encoder.block), len(student.decoder.block)) == (4, 2)
    # Layers 0 and 2 of the reduced one teach; all four of the other.
    assert engine.xtc.distiller.layer_map.attention == ((0, 1, 2, 3) if kd_side == 0 else (0, 2))
    engine(**batch())
    hidden = engine.xtc.loss_parts()["hidden"]
    assert (hidden < 1e-10) == (kd_side == 0)
    engine.destroy()


def test_a_classifier_whose_decoder_reads_the_inputs() -> None:
    student, teacher = tiny_bart(1, whole=False), tiny_bart(2, whole=False)
    engine = engine_of(student, teacher, module_name_prefix="model.decoder.layers")
    inputs = {**batch(), "labels": torch.tensor([0, 1, 2, 1])}
    inputs["input_ids"][:, -3], inputs["attention_mask"][:] = 2, 1
    inputs["input_ids"][:, -2:] = 7
    engine.backward(engine(**inputs).loss)
    assert engine.xtc.loss_parts()["hidden"] > 0
    engine.destroy()


def test_targets_that_only_the_students_forward_can_shift_are_refused() -> None:
    class Silent(type(tiny_t5(0))):  # type: ignore[misc]
        prepare_decoder_input_ids_from_labels = None

    student, teacher = tiny_t5(1), tiny_t5(2)
    student.__class__ = Silent
    engine = engine_of(student, teacher, module_name_prefix="decoder.block")
    with pytest.raises(DistillationError, match="decoder_input_ids"):
        engine(**batch())
    engine.destroy()
