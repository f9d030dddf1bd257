"""Zeros are weights and activations like any other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import xtc_ds
from tests.tiny import block, ds_config

FORMATS: list[dict[str, Any]] = [
    {"bits": 1},
    {"bits": 2},
    {"bits": 4},
    {"bits": 8, "shared": {"quantization_type": "asymmetric"}},
]


class Model(nn.Module):
    """A table with a padding row, and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.dense = nn.Embedding(10, 8, padding_idx=0), nn.Linear(8, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.dense(self.table(ids))
        return out


def compressed(**options: Any) -> Model:
    model = Model()
    compression = block(activation=None, exclude=[], **options)
    activations = {"params": {"bits": 8}, "modules": ["dense"]}
    compression["activation_quantization"] = {
        "shared_parameters": {"enabled": True, "schedule_offset": 0},
        "different_groups": {"all": activations},
    }
    xtc_ds.compress(model, ds_config(compression))
    return model


@pytest.mark.parametrize("options", FORMATS)
def test_a_padding_row_stays_zero_and_its_activation_too(options: dict[str, Any]) -> None:
    """An all-zero row of a table, and the all-zero input that it makes, give zeros and no NaN."""
    model = compressed(**options)
    assert not bool(model.table(torch.tensor([0])).any())
    assert torch.equal(model(torch.tensor([[0]]))[0, 0], model.dense.bias)


@pytest.mark.parametrize("options", FORMATS)
@pytest.mark.parametrize("mode", [{}, {"rounding": "stochastic"}])
def test_an_all_zero_group_trains_and_ships_without_nan(options: dict[str, Any], mode: dict[str, str]) -> None:
    """One group of four is zero: values, gradients and the frozen model stay finite."""
    model = compressed(**{**options, "shared": {**options.get("shared", {}), **mode, "quantize_groups": 4}})
    with torch.no_grad():
        model.dense.weight[1].zero_()
    out = model(torch.tensor([[0, 3, 7]]))
    out.square().sum().backward()
    assert bool(out.isfinite().all())
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    assert bool(xtc_ds.freeze(model)(torch.tensor([[0, 3, 7]])).isfinite().all())


def test_a_zero_weight_has_one_of_the_two_levels_of_one_bit() -> None:
    """sign(0) is +1: there is no third level that the file could not hold."""
    model = compressed(bits=1)
    with torch.no_grad():
        model.dense.weight[:, ::2] = 0
    assert len(model.dense.in_force(model.dense.weight, None)[0].unique()) == 2  # type: ignore[operator]
