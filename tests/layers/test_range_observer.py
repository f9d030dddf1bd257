"""Static activation ranges in awkward moments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import xtc_ds
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.errors import EngineError
from xtc_ds.layers import RangeObserver

STATIC = {"range_calibration": "static"}


def observed(*inputs: torch.Tensor) -> torch.Tensor:
    observer = RangeObserver()
    for x in inputs:
        observer(x)
    return observer.x_min_max


def static_layer() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8))
    xtc_ds.compress(model, ds_config(block(exclude=[], activation_shared=STATIC, activation=8)))
    return model


def test_the_range_is_a_moving_average_that_starts_at_the_first_batch() -> None:
    first, second = torch.tensor([[-1.0, 2.0]]), torch.tensor([[-3.0, 1.0]])
    assert torch.equal(observed(first), torch.tensor([-1.0, 2.0]))
    assert torch.allclose(observed(first, second), torch.tensor([-0.95 - 0.15, 1.9 + 0.05]))


def test_an_overflowed_batch_does_not_stay_in_the_average() -> None:
    good = torch.tensor([[-1.0, 2.0]])
    assert torch.equal(observed(good, torch.tensor([[float("inf"), 1.0]])), observed(good))
    assert torch.equal(observed(good, torch.tensor([[float("nan"), 1.0]])), observed(good))


def test_a_constant_input_is_a_range() -> None:
    layer = static_layer().train()
    assert torch.equal(layer(torch.zeros(2, 8)), layer[0].bias.expand(2, 8))  # type: ignore[index, operator, union-attr]


def test_evaluation_before_training_is_refused() -> None:
    with pytest.raises(EngineError, match="0: the static activation range is not calibrated"):
        static_layer().eval()(torch.ones(2, 8))


def test_gradient_checkpointing_counts_a_batch_once() -> None:
    def ranges(checkpointing: bool) -> list[Any]:
        model = tiny_model()
        xtc_ds.compress(model, ds_config(block(activation_shared=STATIC)))
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        for seed in range(2):
            model(**batch(seed=seed)).loss.backward()
        return [m.x_min_max for m in model.modules() if isinstance(m, RangeObserver)]

    plain, recomputed = ranges(False), ranges(True)
    assert len(plain) > 10
    for ours, theirs in zip(plain, recomputed, strict=True):
        assert torch.allclose(ours, theirs)


def test_a_16_bit_model_keeps_its_ranges_exact() -> None:
    observer = RangeObserver()
    observer(torch.tensor([[-1.2345678, 3.4567891]]))
    exact = observer.x_min_max.clone()
    observer.to(torch.bfloat16)
    assert torch.equal(observer.x_min_max, exact)
