"""Compressed layers are the original modules, and compute with quantized weights."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import xtc_ds
from tests.tiny import ARCHITECTURES, batch, block, ds_config, tiny_model
from xtc_ds.errors import EngineError, XtcError
from xtc_ds.formats import Grouping, get_format
from xtc_ds.layers import CompressedEmbedding, CompressedLinear, compressed_layers, set_step


def compressed(kind: str = "bert", **options: Any) -> Any:
    model = tiny_model(kind)
    xtc_ds.compress(model, ds_config(block(**options)))
    return model


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_parameters_and_keys_stay_the_same_ones(kind: str) -> None:
    model = tiny_model(kind)
    parameters, keys = {n: id(p) for n, p in model.named_parameters()}, list(model.state_dict())
    modules = {name: id(module) for name, module in model.named_modules()}
    xtc_ds.compress(model, ds_config(block()))
    assert {n: id(p) for n, p in model.named_parameters()} == parameters
    assert {name: id(module) for name, module in model.named_modules()} == modules
    assert list(model.state_dict()) == keys
    assert any(True for _ in compressed_layers(model))


def test_the_layer_multiplies_with_decoded_codes() -> None:
    model = compressed()
    layer = model.bert.encoder.layer[0].intermediate.dense
    assert isinstance(layer, CompressedLinear)
    x = torch.randn(3, 5, 32)
    weight_format, grouping = get_format("binary"), Grouping("tensor")
    w = weight_format.encode(grouping.split(layer.weight)).decode().reshape(64, 32)
    scale = 2 * x.abs().amax(-1, keepdim=True) / 256
    x_hat = (x / scale).round().clamp(-128, 127) * scale
    # Integer codes are multiplied exactly; the float product rounds every sum.
    assert torch.allclose(layer(x), F.linear(x_hat, w, layer.bias), atol=1e-5)
    assert len(w.unique()) == 2


def test_conv1d_scales_belong_to_outputs() -> None:
    model = compressed("gpt2", activation=None, shared={"granularity": "row"})
    layer = model.transformer.h[0].attn.c_attn
    x = torch.randn(2, 3, 32)
    alpha = layer.weight.abs().mean(0)
    expected = x @ (torch.where(layer.weight >= 0, 1.0, -1.0) * alpha) + layer.bias
    assert torch.allclose(layer(x), expected, atol=1e-5)


def test_embedding_rows_have_their_own_scale() -> None:
    model = compressed(activation=None, modules=["word_embeddings"], exclude=[])
    layer = model.bert.embeddings.word_embeddings
    assert isinstance(layer, CompressedEmbedding)
    rows = layer(torch.tensor([5, 7, 5]))
    table = layer.weight
    expected = torch.where(table >= 0, 1.0, -1.0) * table.abs().mean(1, keepdim=True)
    assert torch.allclose(rows, expected[[5, 7, 5]])


def test_gradients_go_straight_through_to_weights_and_inputs() -> None:
    layer = compressed().bert.pooler.dense
    x = torch.randn(4, 32, requires_grad=True)
    out = layer(x)
    upstream = torch.randn_like(out)
    out.backward(upstream)
    scale = 2 * x.detach().abs().amax(-1, keepdim=True) / 256
    x_hat = (x.detach() / scale).round().clamp(-128, 127) * scale
    assert torch.allclose(layer.weight.grad, upstream.t() @ x_hat, atol=1e-5)
    assert torch.allclose(x.grad, upstream @ layer.in_force(layer.weight, None)[0].detach(), atol=1e-5)


def test_the_offset_and_the_falling_bits_are_followed() -> None:
    params = {"start_bits": 4, "target_bits": 1, "quantization_period": 1}
    model = compressed(activation=None, shared={"schedule_offset": 2}, params=params)
    layer = model.bert.pooler.dense
    names = []
    for step in range(8):
        set_step(model, step)
        names.append(layer.weight_format and layer.weight_format.name)
    assert names == [None, None, "int4", "int3", "ternary", "ternary", "binary", "binary"]


def test_ties_frozen_parameters_hooks_and_modes_survive() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=50, n_positions=16))
    model.transformer.h[0].attn.c_attn.weight.requires_grad_(False)
    model.transformer.h[0].mlp.eval()
    calls = []
    model.lm_head.register_forward_hook(lambda *_: calls.append(1))
    options = block(activation=None, shared={"granularity": "row"}, modules=["*"], exclude=["wpe"])
    xtc_ds.compress(model, ds_config(options))
    assert model.lm_head.weight is model.transformer.wte.weight
    assert not model.transformer.h[0].attn.c_attn.weight.requires_grad
    assert not model.transformer.h[0].mlp.c_fc.training
    model(input_ids=torch.tensor([[1, 2, 3]]))
    assert calls == [1]


def test_an_optimizer_built_before_trains_the_compressed_model() -> None:
    model = tiny_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    xtc_ds.compress(model, ds_config(block()))
    before = model.bert.pooler.dense.weight.detach().clone()
    model(**batch()).loss.backward()
    optimizer.step()
    assert not torch.equal(model.bert.pooler.dense.weight, before)


def test_copies_and_pickles_compute_the_same() -> None:
    model = compressed().eval()
    inputs = batch(labels=False)
    expected = model(**inputs).logits
    assert torch.equal(copy.deepcopy(model)(**inputs).logits, expected)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(**inputs).logits, expected)


def test_a_plain_state_dict_loads_into_a_compressed_model() -> None:
    model = compressed()
    model.load_state_dict(tiny_model().state_dict())


def test_compressing_twice_is_refused() -> None:
    model = compressed()
    with pytest.raises(XtcError, match="is compressed already"):
        xtc_ds.compress(model, ds_config(block()))


def test_a_refused_config_leaves_the_model_alone() -> None:
    model = tiny_model()
    kinds = {name: type(module) for name, module in model.named_modules()}
    with pytest.raises(XtcError):
        xtc_ds.compress(model, ds_config(block(modules=["query", "no_such_module"])))
    assert {name: type(module) for name, module in model.named_modules()} == kinds


def test_the_callers_dict_is_not_changed() -> None:
    config = ds_config(block(reduction={"keep_number_layer": 2}))
    before = copy.deepcopy(config)
    xtc_ds.compress(tiny_model(), config)
    assert config == before


def test_all_zero_weights_and_inputs_give_no_nan() -> None:
    for bits in (1, 2, 4):
        model = compressed(bits=bits)
        layer = model.bert.pooler.dense
        nn.init.zeros_(layer.weight)
        out = layer(torch.zeros(2, 32))
        assert torch.equal(out, layer.bias.expand(2, -1))


class TestStaticActivations:
    def layer(self) -> tuple[Any, Any]:
        model = compressed(activation_shared={"range_calibration": "static"})
        return model, model.bert.pooler.dense

    def test_the_range_is_a_moving_average_of_training_batches(self) -> None:
        _, layer = self.layer()
        layer.train()
        layer(torch.tensor([[-1.0, 3.0] + [0.0] * 30]))
        assert layer.activation_quantizer.x_min_max.tolist() == [-1, 3]
        layer(torch.tensor([[-2.0, 1.0] + [0.0] * 30]))
        assert layer.activation_quantizer.x_min_max.tolist() == pytest.approx([-1.05, 2.9])
        layer.eval()(torch.full((1, 32), 50.0))
        assert layer.activation_quantizer.x_min_max.tolist() == pytest.approx([-1.05, 2.9])

    def test_evaluation_before_any_training_is_an_error(self) -> None:
        model, _ = self.layer()
        with pytest.raises(EngineError, match="the static activation range is not calibrated"):
            model.eval()(**batch())

    def test_the_buffer_has_deepspeeds_name(self) -> None:
        model, _ = self.layer()
        assert "bert.pooler.dense.activation_quantizer.x_min_max" in model.state_dict()

    def test_a_loaded_range_counts_as_calibrated(self) -> None:
        model, _layer = self.layer()
        model.train()(**batch())
        other, _ = self.layer()
        other.load_state_dict(model.state_dict())
        assert torch.equal(other.eval()(**batch()).logits, model.eval()(**batch()).logits)

    def test_a_16_bit_model_keeps_the_range_in_float32(self) -> None:
        model, layer = self.layer()
        model.bfloat16()
        assert layer.activation_quantizer.x_min_max.dtype == torch.float32


class TestLayerReduction:
    def test_kept_layers_are_the_same_modules_renumbered(self) -> None:
        model = tiny_model("llama")
        layers = list(model.model.layers)
        xtc_ds.compress(model, ds_config(block(reduction={"keep_number_layer": 2})))
        assert [id(layer) for layer in model.model.layers] == [id(layers[1]), id(layers[3])]
        assert [layer.self_attn.layer_idx for layer in model.model.layers] == [0, 1]
        assert model.config.num_hidden_layers == 2
        assert model.model.config.num_hidden_layers == 2

    @pytest.mark.parametrize("kind", ARCHITECTURES)
    def test_a_reduced_model_runs(self, kind: str) -> None:
        model = compressed(kind, reduction={"keep_number_layer": 2})
        assert model(**batch()).logits.shape == (4, 2)

    def test_a_shallow_student_is_initialised_from_the_teacher(self) -> None:
        student, teacher = tiny_model(layers=2), tiny_model(layers=4)
        for parameter in teacher.parameters():
            nn.init.normal_(parameter)
        config = ds_config(block(reduction={"keep_number_layer": 2}))
        xtc_ds.compress(student, config, teacher=teacher)
        theirs = teacher.state_dict()
        for name, tensor in student.state_dict().items():
            origin = name.replace("layer.1.", "layer.3.").replace("layer.0.", "layer.1.")
            assert torch.equal(tensor, theirs[origin]), name

    def test_only_the_named_other_modules_are_taken_over(self) -> None:
        student, teacher = tiny_model(layers=2), tiny_model(layers=4)
        for parameter in teacher.parameters():
            nn.init.normal_(parameter)
        classifier = student.classifier.weight.detach().clone()
        reduction = {"keep_number_layer": 2, "other_module_name": ["bert.embeddings"]}
        xtc_ds.compress(student, ds_config(block(reduction=reduction)), teacher=teacher)
        assert torch.equal(student.classifier.weight, classifier)
        assert torch.equal(
            student.bert.embeddings.word_embeddings.weight, teacher.bert.embeddings.word_embeddings.weight
        )

    def test_the_teachers_config_is_not_touched(self) -> None:
        teacher = tiny_model()
        student = copy.deepcopy(teacher)
        student.config = teacher.config
        xtc_ds.compress(student, ds_config(block(reduction={"keep_number_layer": 2})), teacher=teacher)
        assert teacher.config.num_hidden_layers == 4
