"""Convolutions and batch norms: compressed at any bits, refused by name, or left exactly as they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import xtc_ds
from tests.tiny import block, ds_config
from xtc_ds.errors import PlanError
from xtc_ds.layers import set_step

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two convolutions and two norms, one of them without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular")
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 4, 3, stride=2, groups=2, dilation=2, padding=2, padding_mode="reflect")
        self.plain_norm = nn.BatchNorm2d(4, affine=False)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.plain_norm(self.second(self.norm(self.first(x)).relu()))
        out: torch.Tensor = self.head(x.mean((2, 3)))
        return out


def net() -> Any:
    torch.manual_seed(0)
    return Net()


def compress(model: nn.Module, **options: Any) -> None:
    xtc_ds.compress(model, ds_config(block(exclude=[], **{"activation": None, **options})))


def test_padding_modes_strides_and_groups_are_kept() -> None:
    """Until the technique starts, a compressed convolution computes exactly what it did, circular padding included."""
    model, expected = net(), net().eval()(X)
    compress(model, shared={"schedule_offset": 5}, activation_shared={"schedule_offset": 5}, activation=8)
    assert torch.equal(model.eval()(X), expected)
    set_step(model, 5)
    assert not torch.allclose(model(X), expected, atol=1e-4)


def test_a_quantized_convolution_is_one_with_quantized_weights() -> None:
    """Only the weight differs, whatever the padding."""
    model, other = net().eval(), net().eval()
    compress(model, bits=4)
    with torch.no_grad():
        for name in ("first", "second", "head"):
            getattr(other, name).weight.copy_(getattr(model, name).in_force(getattr(model, name).weight, None)[0])
    assert torch.allclose(model(X), other(X), atol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_convolutions_take_fewer_than_4_bits(bits: int) -> None:
    """1, 2 and 3 bits train and are shipped as they were trained."""
    model = net()
    compress(model, bits=bits)
    model(X).square().sum().backward()
    assert model.first.weight.grad.abs().sum() > 0
    levels = len(model.first.in_force(model.first.weight, None)[0].unique())
    assert levels == {1: 2, 2: 3, 3: 8}[bits]
    model.eval()
    assert torch.allclose(xtc_ds.freeze(model, "float32")(X), model(X), atol=1e-5)


def test_batch_norms_are_left_alone_by_a_pattern_that_means_all() -> None:
    """Norms have no weight matrix; with and without parameters they stay what they are."""
    model = net()
    compress(model)
    assert type(model.norm) is nn.BatchNorm2d
    assert type(model.plain_norm) is nn.BatchNorm2d


@pytest.mark.parametrize("name", ["norm", "plain_norm"])
@pytest.mark.parametrize("technique", ["weight_quantization", "activation_quantization"])
def test_quantizing_a_batch_norm_is_an_error_of_the_plan(name: str, technique: str) -> None:
    """A pattern that finds nothing but a norm is refused with the path of the pattern."""
    compression = block(activation=8, exclude=[])
    compression[technique]["different_groups"]["all"]["modules"] = ["first", f"^{name}$"]
    with pytest.raises(PlanError, match=rf"{technique}.different_groups.all.modules\[1\].*norm"):
        xtc_ds.compress(net(), ds_config(compression))
