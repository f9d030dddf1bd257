"""Compressed convolutions compute as the plain ones do, with quantized weights and inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import xtc_ds
from tests.checkpoint.pruned_models import Network, config, network
from xtc_ds.errors import PlanError
from xtc_ds.formats import Grouping, get_format
from xtc_ds.layers import CompressedConv2d, restore_class, set_step

GEOMETRIES: list[dict[str, Any]] = [
    {"padding": 1},
    {"padding": 1, "padding_mode": "circular"},
    {"padding": 2, "padding_mode": "reflect", "stride": 2},
    {"padding": "same", "padding_mode": "replicate", "dilation": 2},
    {"padding": (0, 1), "groups": 4, "stride": (1, 2), "bias": False},
]


def compressed(model: nn.Module, **options: Any) -> nn.Module:
    xtc_ds.compress(model, config(quantized={"exclude": ["^head$"], "modules": ["*"], **options}))
    return model


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_a_convolution_keeps_its_geometry(geometry: dict[str, Any]) -> None:
    plain = nn.Conv2d(4, 8, 3, **geometry)
    model, x = nn.Sequential(plain), torch.randn(2, 4, 7, 7)
    expected, weight = plain(x), plain.weight
    compressed(model, shared={"schedule_offset": 1}, activation_shared={"schedule_offset": 1}, bits=4)
    assert isinstance(plain, CompressedConv2d)
    assert plain.weight is weight
    assert torch.equal(model(x), expected)
    set_step(model, 1)
    weight_format, grouping = get_format("int4"), Grouping("tensor")
    w = weight_format.encode(grouping.split(weight)).decode().reshape(weight.shape)
    scale = 2 * x.abs().amax((1, 2, 3), keepdim=True) / 256
    x_hat = (x / scale).round().clamp(-128, 127) * scale
    assert torch.equal(model(x), plain._conv_forward(x_hat, w, plain.bias))
    assert torch.allclose(model(x[0]), model(x)[0], atol=1e-5)
    assert type(restore_class(plain)) is nn.Conv2d
    assert torch.equal(plain(x), expected)


def test_every_width_is_allowed_with_row_scales_and_groups() -> None:
    for options in ({"bits": 1}, {"bits": 2}, {"bits": 3, "shared": {"granularity": "row"}}):
        model = compressed(network(), **options)
        conv: Any = model.layers[0].conv1  # type: ignore[union-attr, index]
        values = [len(kernel.unique()) for kernel in conv.in_force(conv.weight, None)[0]]
        assert max(values) <= 2 ** options["bits"]  # type: ignore[operator]
    model = compressed(network(), bits=8, shared={"quantize_groups": 4}, activation=None)
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 5)


def test_gradients_go_straight_through() -> None:
    conv = nn.Conv2d(3, 4, 3)
    compressed(nn.Sequential(conv), bits=2, activation=None)
    x = torch.randn(2, 3, 5, 5, requires_grad=True)
    conv(x).sum().backward()
    plain = nn.Conv2d(3, 4, 3)
    plain.load_state_dict(conv.state_dict())
    plain(x.detach()).sum().backward()
    assert torch.equal(conv.weight.grad, plain.weight.grad)  # type: ignore[arg-type]


def test_a_static_range_is_of_the_whole_tensor() -> None:
    model = compressed(nn.Sequential(nn.Conv2d(1, 1, 1)), activation_shared={"range_calibration": "static"})
    model.train()(torch.tensor([[[[1.0, -2.0]]], [[[3.0, 0.5]]]]))
    assert model[0].activation_quantizer.x_min_max.tolist() == [-2, 3]  # type: ignore[index]


def test_an_empty_batch_passes() -> None:
    model = compressed(nn.Sequential(nn.Conv2d(3, 4, 3)))
    assert model(torch.zeros(0, 3, 5, 5)).shape == (0, 4, 3, 3)


def test_norms_are_no_layers_to_quantize_but_are_found_by_name_of_others() -> None:
    plan = xtc_ds.make_plan(Network(), xtc_ds.load_config(config(quantized={"modules": ["layers"], "exclude": []}))[1])
    assert {row.kind for row in plan.weights} == {"Conv2d"}


class Scaled(nn.Conv2d):
    """A convolution with a forward of its own."""


def test_a_subclass_is_refused() -> None:
    with pytest.raises(PlanError, match="is a Scaled, whose own forward would be lost"):
        compressed(nn.Sequential(Scaled(3, 4, 3)))
