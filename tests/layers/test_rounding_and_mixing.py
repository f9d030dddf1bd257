"""Stochastic rounding and mixed quantization in the layers: when they act, and that they can be repeated."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.utils.checkpoint import checkpoint

import xtc_ds
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.config import load_config
from xtc_ds.formats import Grouping, get_format
from xtc_ds.layers import set_step
from xtc_ds.plan import plan_table, plan_to_dict
from xtc_ds.rewrite import make_plan

STOCHASTIC = {"rounding": "stochastic"}
MIXED = {"fp16_mixed_quantize": {"enabled": True, "quantize_change_ratio": 0.25}}


def compressed(kind: str = "bert", bits: float = 4, **options: Any) -> Any:
    model = tiny_model(kind)
    options.setdefault("activation", None)
    xtc_ds.compress(model, ds_config(block(bits=bits, **options)))
    return model


def weight_of(layer: Any) -> torch.Tensor:
    w: torch.Tensor = layer.in_force(layer.weight, None)[0].detach()
    return w


def nearest(w: torch.Tensor, name: str, grouping: Grouping = Grouping()) -> torch.Tensor:  # noqa: B008 (frozen)
    return get_format(name).encode(grouping.split(w)).decode().reshape(w.shape)


class TestStochasticRounding:
    def test_training_rounds_at_random_and_evaluation_to_the_nearest(self) -> None:
        layer, plain = (compressed(shared=shared).bert.pooler.dense for shared in (STOCHASTIC, {}))
        assert not torch.equal(weight_of(layer.train()), weight_of(plain.train()))
        assert torch.equal(weight_of(layer.eval()), weight_of(plain))

    def test_a_step_has_its_own_numbers_and_gives_them_again(self) -> None:
        model = compressed(shared=STOCHASTIC).train()
        layer = model.bert.pooler.dense
        seen = []
        for step in (0, 1, 0, 1):
            set_step(model, step)
            seen.append(weight_of(layer))
        assert torch.equal(seen[0], seen[2])
        assert torch.equal(seen[1], seen[3])
        assert not torch.equal(seen[0], seen[1])

    def test_layers_of_equal_weights_draw_different_numbers(self) -> None:
        model = compressed(shared=STOCHASTIC).train()
        first, second = (model.bert.encoder.layer[i].output.dense for i in (0, 1))
        second.weight = nn.Parameter(first.weight.detach().clone())
        assert not torch.equal(weight_of(first), weight_of(second))

    @pytest.mark.parametrize("shared", [{}, {"granularity": "tensor"}])
    def test_a_token_is_rounded_alike_whatever_is_looked_up_beside_it(self, shared: dict[str, Any]) -> None:
        model = compressed(shared=STOCHASTIC | shared, modules=["word_embeddings"], exclude=[]).train()
        table = model.bert.embeddings.word_embeddings
        whole = table(torch.arange(100))
        some = table(torch.tensor([[7, 3], [7, 99]]))
        assert torch.equal(some, whole[torch.tensor([[7, 3], [7, 99]])])
        assert torch.equal(whole, weight_of(table))
        assert not torch.equal(whole, table.eval()(torch.arange(100)))

    def test_a_lookup_of_nothing_gives_nothing(self) -> None:
        model = compressed(shared=STOCHASTIC | {"granularity": "tensor"}, modules=["word_embeddings"], exclude=[])
        assert model.bert.embeddings.word_embeddings(torch.zeros(0, dtype=torch.long)).shape == (0, 32)

    def test_a_transposed_layer_is_rounded_in_the_mean(self) -> None:
        model = compressed("gpt2", bits=3, shared=STOCHASTIC).train()
        layer = model.transformer.h[0].attn.c_attn
        total = torch.zeros(96, 32)
        for step in range(300):
            set_step(model, step)
            total += layer.in_force(layer.weight.t(), None)[0].detach()
        w_OI = layer.weight.detach().t()
        step_size = 2 * float(w_OI.abs().max()) / 8
        inside = w_OI < 3 * step_size
        assert float((total / 300 - w_OI).abs()[inside].max()) < 6 * 0.5 * step_size / 300**0.5

    def test_recomputed_forwards_see_the_same_weights(self) -> None:
        gradients = []
        for recompute in (False, True):
            model = compressed(shared=STOCHASTIC, bits=2, params={"format": "integer"}).train()
            set_step(model, 3)
            x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
            layer = model.bert.encoder.layer[0].intermediate
            out = checkpoint(layer, x, use_reentrant=False) if recompute else layer(x)
            out.square().sum().backward()
            gradients.append((x.grad, layer.dense.weight.grad))
        for plain, recomputed in zip(*gradients, strict=True):
            assert torch.equal(plain, recomputed)

    def test_what_is_frozen_is_rounded_to_the_nearest(self) -> None:
        inputs = batch(labels=False)
        ours, plain = (compressed(shared=shared).train() for shared in (STOCHASTIC, {}))
        expected = xtc_ds.freeze(plain)(**inputs).logits
        assert torch.equal(xtc_ds.freeze(ours)(**inputs).logits, expected)
        assert ours.training

    def test_copies_draw_the_same_numbers(self) -> None:
        model = compressed(shared=STOCHASTIC).train()
        assert torch.equal(copy.deepcopy(model)(**batch()).logits, model(**batch()).logits)


class TestMixing:
    def test_the_float_share_falls_and_starts_anew_with_each_change_of_bits(self) -> None:
        params = {"start_bits": 4, "target_bits": 3, "quantization_period": 3}
        model = compressed(shared=MIXED | {"schedule_offset": 1}, params=params)
        layer = model.bert.pooler.dense
        expected = [(None, 1), (4, 1), (4, 0.75), (4, 0.5), (3, 1), (3, 0.75), (3, 0.5), (3, 0.25), (3, 0), (3, 0)]
        for step, (bits, share) in enumerate(expected):
            set_step(model, step)
            w = layer.weight.detach()
            w_hat = (
                w if bits is None else get_format(f"int{bits}").encode(Grouping().split(w)).decode().reshape(w.shape)
            )
            assert torch.equal(weight_of(layer), share * w + (1 - share) * w_hat), step

    def test_the_gradient_goes_straight_through(self) -> None:
        model = compressed(shared=MIXED)
        set_step(model, 2)
        layer, x, upstream = model.bert.pooler.dense, torch.randn(4, 32), torch.randn(4, 32)
        layer(x).backward(upstream)
        assert torch.allclose(layer.weight.grad, upstream.t() @ x, atol=1e-5)

    def test_evaluation_sees_the_mixture_and_the_file_the_codes(self) -> None:
        inputs = batch(labels=False)
        model, plain = compressed(shared=MIXED).eval(), compressed().eval()
        set_step(model, 2)
        assert not torch.allclose(model(**inputs).logits, plain(**inputs).logits, atol=1e-3)
        assert torch.equal(xtc_ds.freeze(model)(**inputs).logits, xtc_ds.freeze(plain)(**inputs).logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_16_bit_layers_compute_with_their_levels(dtype: torch.dtype, bits: int) -> None:
    layer = compressed(bits=bits).to(dtype).bert.pooler.dense
    x = torch.randn(3, 32, dtype=dtype)
    w_hat = weight_of(layer)
    assert w_hat.dtype == dtype
    assert len(w_hat.unique()) <= {1: 2, 2: 3}.get(bits, 2**bits)
    out = layer(x)
    out.sum().backward()
    assert torch.equal(out.detach(), nn.functional.linear(x, w_hat, layer.bias.detach()))
    assert torch.equal(layer.weight.grad, torch.ones(3, 32, dtype=dtype).t() @ x)


def test_stochastic_rounding_without_a_grid_is_a_warning_of_the_plan() -> None:
    def remarked(**options: Any) -> bool:
        shared = STOCHASTIC | {"quantize_weight_in_forward": False}
        config = load_config(ds_config(block(shared=shared, activation=None, **options)))[1]
        what = "has no effect on group 'all', which is binary or ternary"
        return any(what in str(warning).replace('"', "'") for warning in make_plan(tiny_model(), config).warnings)

    assert remarked(bits=1)
    assert remarked(bits=2)
    assert remarked(bits=1.58)
    assert not remarked(bits=4)
    assert not remarked(bits=2, params={"format": "integer"})
    assert not remarked(bits=2, params={"quantization_type": "asymmetric"})
    assert not remarked(bits=8, params={"target_bits": 1})


def test_the_plan_shows_rounding_and_mixing() -> None:
    plan = make_plan(tiny_model(), load_config(ds_config(block(bits=4, shared=STOCHASTIC | MIXED)))[1])
    row = plan_to_dict(plan)["modules"][0]
    assert (row["rounding"], row["quantize_change_ratio"]) == ("stochastic", 0.25)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(plan_table(plan))
    assert "int4 / tensor, stochastic, mixed by 0.25 a step" in console.export_text()


def test_groups_of_one_model_differ_in_every_setting() -> None:
    config = ds_config(block(activation=None, shared={"schedule_offset": 1, "quantize_groups": 2}))
    first = {"start_bits": 4, "target_bits": 4, "schedule_offset": 0, "quantize_groups": 4}
    second = {"start_bits": 3, "target_bits": 3, "quantization_type": "asymmetric", "granularity": "row"}
    config["compression_training"]["weight_quantization"]["different_groups"] = {
        "first": {"params": first | {"rounding": "stochastic"}, "modules": ["query"]},
        "second": {"params": second | {"quantize_groups": 1, "schedule_offset": 2}, "modules": ["key"]},
        "shared": {"params": {"start_bits": 1, "target_bits": 1}, "modules": ["value"], "exclude": [r"layer\.0"]},
    }
    model = tiny_model()
    xtc_ds.compress(model, config)
    model.train()
    heads = model.bert.encoder.layer[1].attention.self
    seen = []
    for step in range(3):
        set_step(model, step)
        seen.append(
            [layer.weight_format and layer.weight_format.name for layer in (heads.query, heads.key, heads.value)]
        )
    assert seen == [["int4", None, None], ["int4", None, "binary"], ["int4", "int3_asymmetric", "binary"]]
    levels = [len(rows.unique()) for rows in weight_of(heads.key)]
    assert max(levels) <= 8
    assert len(weight_of(heads.key).unique()) > 8
    assert len(weight_of(heads.value).unique()) == 4
    query = heads.query.weight.detach()
    rounded = nearest(query, "int4", Grouping("group", 4))
    assert not torch.equal(weight_of(heads.query), rounded)
    assert torch.equal(weight_of(heads.query.eval()), rounded)
    assert type(model.bert.encoder.layer[0].attention.self.value) is nn.Linear
