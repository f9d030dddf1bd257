"""Baking: the compressed model becomes, in place, a dense one that computes the same."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import xtc_ds
from tests.checkpoint.pruned_models import IMAGES, config, network, pruning, transformer_pruning
from tests.tiny import ARCHITECTURES, batch, tiny_model
from xtc_ds.errors import ExportError
from xtc_ds.freezing.bake import bake
from xtc_ds.layers import CompressedLayer, compressed_layers, set_step

INPUTS = batch(labels=False)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    result: torch.Tensor = model(**INPUTS).logits
    return result


def compressed(*blocks: Any, kind: str = "bert", quantized: dict[str, Any] | None = None, **extra: Any) -> Any:
    model = tiny_model(kind, layers=2, **extra).eval()
    xtc_ds.compress(model, config(*blocks, quantized=quantized))
    set_step(model, 10)
    return model


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_quantized_weights_become_the_weights(kind: str, bits: int) -> None:
    model = compressed(kind=kind, quantized={"bits": bits, "activation": None})
    parameters = {name: id(parameter) for name, parameter in model.named_parameters()}
    expected = logits(model)
    bake(model)
    assert list(compressed_layers(model)) == []
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == parameters
    # A transposed weight is multiplied by other kernels, which sum in another order.
    assert torch.equal(logits(model), expected) or (
        kind == "gpt2" and torch.allclose(logits(model), expected, atol=1e-5)
    )
    state = copy.deepcopy(model.state_dict())
    bake(model)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_baked_model_is_a_plain_one_that_transformers_saves(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = compressed(pruning("sparse", 0.4, "dense", method="topk"), quantized={"bits": 4, "activation": None})
    expected = logits(model)
    bake(model)
    plain = tiny_model(layers=2)
    assert {name: type(m) for name, m in model.named_modules()} == {name: type(m) for name, m in plain.named_modules()}
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert all(vars(module).keys() <= vars(other).keys() for module, other in zip(
        [m for m in model.modules() if isinstance(m, nn.Linear)],
        [m for m in plain.modules() if isinstance(m, nn.Linear)], strict=True,
    ))  # fmt: skip
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert torch.equal(logits(loaded), expected)


def test_what_is_baked_is_the_end_of_the_schedule() -> None:
    options = {"bits": 8, "params": {"target_bits": 1, "start_bits": 8}, "shared": {"schedule_offset": 1000}}
    model = compressed(quantized={**options, "activation": None})
    bake(model)
    assert len(model.bert.pooler.dense.weight.unique()) == 2


@pytest.mark.parametrize("calibration", ["dynamic", "static"])
def test_inputs_go_on_being_quantized_from_the_first_step(calibration: str) -> None:
    model = compressed(
        pruning("sparse", 0.4, "dense"),
        quantized={"bits": 2, "activation_shared": {"range_calibration": calibration, "schedule_offset": 5}},
    )
    model.train()(**INPUTS)
    expected = logits(model.eval())
    bake(model)
    assert torch.equal(logits(model), expected)
    set_step(model, 0)
    assert torch.equal(logits(model), expected)
    layers = [layer for _, layer in compressed_layers(model)]
    assert layers
    assert not any(layer.weight_transforms for layer in layers)
    assert [name for name in model.state_dict() if "mask" in name] == []


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
@pytest.mark.parametrize("quantized", [None, {"activation": None}, {"bits": 4}], ids=str)
def test_rows_and_heads_go_in_place(kind: str, quantized: dict[str, Any] | None, tmp_path: Path) -> None:
    model = compressed(*transformer_pruning(kind), kind=kind, quantized=quantized, num_attention_heads=4)
    untouched = {
        name: id(p) for name, p in model.named_parameters() if "LayerNorm" in name or "output.dense.bias" in name
    }
    expected, frozen = logits(model), xtc_ds.freeze(model, "float32")
    bake(model)
    # Another order of sums may move an input to the next code.
    tolerance = 5e-3 if quantized and "bits" in quantized else 2e-5
    assert torch.allclose(logits(model), expected, atol=tolerance)
    assert torch.allclose(logits(model), logits(frozen), atol=tolerance)
    small = model.base_model.encoder.layer[0]
    assert small.attention.self.num_attention_heads == 2
    assert small.intermediate.dense.weight.shape == (48, 32)
    assert small.output.dense.in_features == 48
    assert untouched.items() <= {name: id(p) for name, p in model.named_parameters()}.items()
    # What was baked can still be packed, and the file says how small it is.
    xtc_ds.export_packed(model, tmp_path / "out")
    loaded = xtc_ds.load(tmp_path / "out")
    assert torch.allclose(logits(loaded), logits(model), atol=1e-2)


def test_a_baked_model_can_be_compressed_and_pruned_once_more(tmp_path: Path) -> None:
    model = compressed(*transformer_pruning("bert"), num_attention_heads=4)
    bake(model)
    xtc_ds.compress(
        model, config(pruning("row", 0.5, "intermediate", ["layer.\\d+.output.dense"]), quantized={"bits": 4})
    )
    set_step(model, 1)
    frozen = xtc_ds.freeze(model)
    xtc_ds.export_packed(frozen, tmp_path / "out")
    into: Any = xtc_ds.load_into(tiny_model(layers=2, num_attention_heads=4), tmp_path / "out")
    assert into.bert.encoder.layer[1].intermediate.dense.spec.shape == (24, 32)
    assert torch.equal(logits(into), logits(frozen))


def test_tied_tables_are_quantized_once() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=50, n_positions=16)).eval()
    quantized = {"bits": 2, "activation": None, "shared": {"granularity": "row"}, "modules": ["*"], "exclude": ["wpe"]}
    xtc_ds.compress(model, config(quantized=quantized))
    ids = torch.tensor([[1, 2, 3]])
    expected = model(input_ids=ids).logits
    bake(model)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert torch.allclose(model(input_ids=ids).logits, expected, atol=1e-5)


@pytest.mark.parametrize("affine", [True, False])
@torch.no_grad()
def test_channels_go_in_place(affine: bool) -> None:
    model = network(affine)
    blocks = pruning("channel", 0.5, "conv1", ["bn1", "conv2"]), pruning("channel", 0.5, "stem", method="topk")
    xtc_ds.compress(model, config(blocks[0], quantized={"bits": 4, "activation": None, "exclude": []}))
    set_step(model, 1)
    frozen = xtc_ds.freeze(model, "float32")
    bake(model)
    assert torch.allclose(model(IMAGES), frozen(IMAGES), atol=1e-6)
    assert model.layers[0].conv2.in_channels == 8  # type: ignore[union-attr]
    assert not any(isinstance(module, CompressedLayer) for module in model.modules())
    assert model.train()(IMAGES).shape == (4, 5)


def test_a_frozen_model_is_not_baked() -> None:
    frozen = xtc_ds.freeze(compressed(quantized={}))
    with pytest.raises(ExportError, match="is frozen: its weights are packed"):
        bake(frozen)


def engine_of(model: nn.Module, stage: int, ds_config: dict[str, Any]) -> Any:
    optimizer = {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}}
    extra = {"zero_optimization": {"stage": stage}, "optimizer": optimizer, "zero_force_ds_cpu_optimizer": False}
    return xtc_ds.initialize(model=model, config={**ds_config, **extra})[0]


@pytest.mark.parametrize("stage", [0, 3])
def test_an_engine_is_baked(stage: int, single_process_group: None) -> None:
    blocks = pruning("sparse", 0.5, "pooler", method="topk"), pruning("row", 0.5, "intermediate", method="topk")
    model = tiny_model(layers=1)
    engine = engine_of(model, stage, config(*blocks, quantized={"activation": None}))
    loss = engine(**batch()).loss
    engine.backward(loss)
    engine.step()
    engine.eval()
    expected = logits(engine)
    bake(engine)
    assert torch.allclose(logits(engine), expected, atol=1e-6)
    assert list(compressed_layers(model)) == []
    import deepspeed

    with deepspeed.zero.GatheredParameters([model.bert.pooler.dense.weight]):
        assert sorted(set(model.bert.pooler.dense.weight.abs().flatten().tolist()))[0] == 0
        assert len(model.bert.pooler.dense.weight.unique()) == 3


def test_partitioned_parameters_cannot_shrink(single_process_group: None) -> None:
    model = tiny_model(layers=1, num_attention_heads=4)
    engine = engine_of(model, 3, config(*transformer_pruning("bert")))
    layers = [type(module) for module in model.modules()]
    with pytest.raises(ExportError, match=r"is partitioned by ZeRO-3 and cannot shrink in place; call xtc_ds.freeze"):
        bake(engine)
    assert [type(module) for module in model.modules()] == layers
    frozen = xtc_ds.freeze(engine)
    assert frozen.bert.encoder.layer[0].intermediate.dense.weight.shape == (48, 32)  # type: ignore[union-attr, operator, index]
