"""A rewritten model is still the user's own: the same parameters, ties, hooks and modes, and only matched modules."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import xtc_ds
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.errors import PlanError
from xtc_ds.layers import compressed_layers, set_step


def compress(model: nn.Module, **options: Any) -> None:
    options.setdefault("activation", None)
    options.setdefault("exclude", [])
    xtc_ds.compress(model, ds_config(block(**options)))


class TiedLm(nn.Module):
    """A table, a layer, and a head that shares the table."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.body, self.head = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 20, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.body(self.table(ids)).relu())
        return out


@pytest.mark.parametrize("modules", [["body"], ["*"]])
def test_tied_weights_stay_one_parameter_through_training(modules: list[str]) -> None:
    """Whether the tied modules are compressed or not, table and head are one Parameter before and after a step."""
    model = TiedLm()
    compress(model, modules=modules, shared={"granularity": "row"})
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    assert len(list(model.parameters())) == 3
    model(torch.tensor([[1, 2, 3]])).square().mean().backward()
    optimizer.step()
    assert model.head.weight is model.table.weight


def test_frozen_parameters_stay_frozen() -> None:
    """``requires_grad`` of matched and unmatched layers is what it was."""
    model = tiny_model()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("layer.2" not in name and "embeddings" not in name)
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    compress(model)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before
    model(**batch()).loss.backward()
    assert {name: parameter.grad is not None for name, parameter in model.named_parameters()} == before


def test_hooks_and_modes_stay() -> None:
    """Forward and backward hooks, parameter hooks and the training flag outlive the rewriting."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    calls = []
    model[0].eval()
    model[0].register_forward_pre_hook(lambda *_: calls.append("before"))
    model[0].register_forward_hook(lambda *_: calls.append("after"))
    model[0].register_full_backward_hook(lambda *_: calls.append("backward"))
    model[0].weight.register_hook(lambda _: calls.append("gradient"))
    compress(model)
    assert (model[0].training, model[1].training) == (False, True)
    model(torch.randn(3, 4, requires_grad=True)).sum().backward()
    assert sorted(calls) == ["after", "backward", "before", "gradient"]


class Adapted(nn.Linear):
    """A linear layer with a forward of its own, as adapters have it."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) + 1


def test_a_layer_with_a_forward_of_its_own_is_refused_or_left_alone() -> None:
    """Matched, it is an error that says so; not matched, it computes as ever."""
    model = nn.Sequential(Adapted(4, 4), nn.Linear(4, 2))
    with pytest.raises(PlanError, match=r"'0' is a Adapted, whose own forward would be lost; exclude it"):
        compress(model)
    compress(model, modules=["1"])
    x = torch.randn(3, 4)
    assert type(model[0]) is Adapted
    assert torch.equal(model[0](x), F.linear(x, model[0].weight, model[0].bias) + 1)


def test_modules_that_no_pattern_matches_keep_their_class() -> None:
    """Only what is compressed is touched."""
    model = tiny_model()
    kinds = {name: type(module) for name, module in model.named_modules()}
    compress(model, modules=["pooler"])
    changed = {name for name, module in model.named_modules() if type(module) is not kinds[name]}
    assert changed == {"bert.pooler.dense"}


def test_an_optimizer_built_before_holds_the_models_parameters() -> None:
    """All of them, and its step changes the model."""
    model = tiny_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    compress(model)
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in model.parameters()}
    before = model.bert.encoder.layer[0].output.dense.weight.detach().clone()
    model(**batch()).loss.backward()
    optimizer.step()
    assert not torch.equal(model.bert.encoder.layer[0].output.dense.weight, before)


def test_a_copy_computes_trains_and_is_scheduled_like_the_original() -> None:
    """``copy.deepcopy`` takes formats, rules and learned masks along."""
    params = {"start_bits": 8, "target_bits": 2, "quantization_period": 0}
    model = tiny_model()
    compress(model, bits=8, params=params, activation=8)
    set_step(model, 3)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(**batch()).logits, model(**batch()).logits)
    set_step(twin, 6)
    assert {layer.weight_format.name for _, layer in compressed_layers(twin) if layer.weight_format} == {"ternary"}
    assert {layer.weight_format.name for _, layer in compressed_layers(model) if layer.weight_format} == {"int5"}
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in model.parameters()}
    twin(**batch()).loss.backward()
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("pattern", ["out_proj", "*"])
def test_attention_that_bypasses_its_projection_is_refused(pattern: str) -> None:
    """``nn.MultiheadAttention`` never calls out_proj, so that quantizing it would do nothing."""
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2), "head": nn.Linear(8, 2)})
    with pytest.raises(PlanError, match="'attention.out_proj' is never called: nn.MultiheadAttention uses its weight"):
        compress(model, modules=[pattern])
    compress(model, modules=["*"], exclude=["out_proj"])
    assert [name for name, _ in compressed_layers(model)] == ["head"]
