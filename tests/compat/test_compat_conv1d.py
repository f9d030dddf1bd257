"""``convert_conv1d_to_linear``."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.compat.deepspeed import convert_conv1d_to_linear, init_compression
from xtc_ds.errors import PlanError


def test_gpt2_computes_the_same_with_linears() -> None:
    model = tiny_model("gpt2", layers=2).eval()
    expected = model(**batch(labels=False)).logits
    names = list(model.state_dict())
    assert convert_conv1d_to_linear(model, Conv1D) is model
    assert not any(isinstance(module, Conv1D) for module in model.modules())
    assert type(model.transformer.h[0].attn.c_attn) is nn.Linear
    assert model.transformer.h[0].attn.c_attn.weight.shape == (96, 32)
    assert list(model.state_dict()) == names
    assert torch.allclose(model(**batch(labels=False)).logits, expected, atol=1e-6)


def test_parameters_stay_the_same_objects() -> None:
    model = nn.ModuleDict({"a": Conv1D(3, 4), "b": Conv1D(3, 4)}).to(torch.bfloat16).eval()
    model["b"].weight = model["a"].weight
    model["again"] = model["b"]
    model["a"].weight.requires_grad_(False)
    seen: list[int] = []
    model["a"].register_forward_hook(lambda *_: seen.append(1))
    parameters, values = dict(model.named_parameters()), copy.deepcopy(model["a"].weight.detach())
    convert_conv1d_to_linear(model, Conv1D)
    assert all(parameters[name] is parameter for name, parameter in model.named_parameters())
    assert model["a"].weight is model["b"].weight
    assert model["again"] is model["b"]
    assert not model["a"].weight.requires_grad and model["a"].bias.requires_grad
    assert model["a"].weight.dtype == torch.bfloat16 and not model["a"].training
    assert torch.equal(model["a"].weight, values.t())
    assert model["a"].weight.is_contiguous()
    model["a"](torch.zeros(1, 4, dtype=torch.bfloat16))
    assert seen == [1]


def test_what_cannot_be_converted_is_refused_untouched() -> None:
    with pytest.raises(PlanError, match="itself of the type to convert"):
        convert_conv1d_to_linear(Conv1D(3, 4), Conv1D)
    tied = nn.ModuleDict({"table": nn.Embedding(4, 3), "head": Conv1D(3, 4)})
    tied["head"].weight = tied["table"].weight
    with pytest.raises(PlanError, match="head: shares its weight with a module of another type"):
        convert_conv1d_to_linear(tied, Conv1D)
    assert isinstance(tied["head"], Conv1D) and tied["head"].weight.shape == (4, 3)
    compressed = init_compression(tiny_model("gpt2"), ds_config(block()))
    with pytest.raises(PlanError, match="before init_compression"):
        convert_conv1d_to_linear(compressed, Conv1D)
