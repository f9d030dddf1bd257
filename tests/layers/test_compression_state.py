"""What a model knows of its compression: copies keep it, a change of one leaves the others, plain models have none."""

from __future__ import annotations

import copy
import io

import torch
from torch import nn

import xtc_ds
from tests.tiny import block, ds_config, tiny_model
from xtc_ds.clone import clone_model
from xtc_ds.compression_state import CompressionState, state_of, update_state


def compressed() -> nn.Module:
    model: nn.Module = tiny_model(layers=1)
    xtc_ds.compress(model, ds_config(block()))
    return model


def pickled(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded: nn.Module = torch.load(buffer, weights_only=False)
    return loaded


def test_a_plain_model_has_the_state_of_one() -> None:
    model = nn.Linear(2, 2)
    assert state_of(model) == CompressionState()
    assert not any("xtc" in name for name in vars(model))


def test_copies_keep_it_and_change_alone() -> None:
    model = compressed()
    state = state_of(model)
    assert state.float_dtype == "float16"
    assert state.about["original_bytes"] > 0
    keys = list(model.state_dict())
    for twin in (copy.deepcopy(model), clone_model(model, lambda old, stored: old.detach().clone()), pickled(model)):
        assert state_of(twin) == state
        update_state(twin, frozen=True, about={})
        assert state_of(model) == state
        assert list(twin.state_dict()) == keys


def test_a_frozen_model_has_its_own() -> None:
    model = compressed()
    frozen = xtc_ds.freeze(model, "bfloat16")
    assert (state_of(model).frozen, state_of(frozen).frozen) == (False, True)
    assert (state_of(model).float_dtype, state_of(frozen).float_dtype) == ("float16", "bfloat16")
    assert state_of(frozen).about == state_of(model).about
