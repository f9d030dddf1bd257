"""Random shapes, formats and prunings together: what is trained, baked, shipped and loaded is one thing."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import xtc_ds
from tests.checkpoint.pruned_models import config, pruning
from xtc_ds.freezing.bake import bake
from xtc_ds.layers import set_step

RATIOS = st.sampled_from([0.01, 0.3, 0.5, 0.99, 1.0])
METHODS = st.sampled_from(["l1", "topk"])


class Image(nn.Module):
    """A convolution with a norm, a pooling and three linear layers, with activations that are not 0 at 0."""

    def __init__(self, channels: int, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, channels, (3, 1), bias=bias)
        self.norm = nn.BatchNorm2d(channels, affine=bias)
        self.deep = nn.Conv2d(channels, 3, 2, padding=1)
        self.wide = nn.Linear(3, width, bias=bias)
        self.value = nn.Linear(width, 2 * heads)
        self.out = nn.Linear(2 * heads, 3, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.deep(torch.sigmoid(self.norm(self.conv(x)))).mean((2, 3))
        y: torch.Tensor = self.out(self.value(torch.cos(self.wide(x))))
        return y


@st.composite
def cases(draw: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    shape = {name: draw(st.integers(1, 7)) for name in ("channels", "width", "heads")} | {"bias": draw(st.booleans())}
    blocks = {}
    if draw(st.booleans()):
        blocks |= pruning("sparse", draw(RATIOS), "^(deep|wide|out)$", method=draw(METHODS))
    if draw(st.booleans()):
        related = draw(st.sampled_from([None, ["norm", "deep"]]))
        blocks |= pruning("channel", draw(RATIOS), "conv", related, method=draw(METHODS))
    if draw(st.booleans()):
        related = draw(st.sampled_from([None, ["value"]]))
        blocks |= pruning("row", draw(RATIOS), "wide", related, method=draw(METHODS))
    if draw(st.booleans()):
        related = draw(st.sampled_from([None, ["value"]]))
        blocks |= pruning("head", draw(RATIOS), "out", related, method=draw(METHODS), num_heads=shape["heads"])
    quantized = None
    if draw(st.booleans()):
        bits = draw(st.integers(1, 8))
        kind = draw(st.sampled_from(["symmetric", "asymmetric"] if bits > 2 else ["symmetric"]))
        quantized = {
            "bits": bits,
            "activation": draw(st.sampled_from([None, 8])),
            "shared": {"quantization_type": kind, "granularity": draw(st.sampled_from(["auto", "row"]))},
            "activation_shared": {"quantization_type": draw(st.sampled_from(["symmetric", "asymmetric"]))},
            "exclude": ["^norm$", *draw(st.sampled_from([[], ["out"], ["wide|conv"]]))],
            "export": "float32",
        }
    return shape, config(blocks, quantized=quantized)


@pytest.mark.slow
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
@torch.no_grad()
def test_any_mixture_is_shipped_as_it_was_trained(case: tuple[dict[str, Any], dict[str, Any]]) -> None:
    shape, ds_config = case
    torch.manual_seed(0)
    model, x = Image(**shape).eval(), torch.randn(3, 2, 5, 4)
    if shape["bias"]:
        torch.nn.init.uniform_(model.norm.bias, -1, 1)
    plan = xtc_ds.compress(model, ds_config)
    set_step(model, 1)
    frozen = xtc_ds.freeze(model)
    with tempfile.TemporaryDirectory() as folder:
        report = xtc_ds.export_packed(frozen, Path(folder) / "out")
        loaded = xtc_ds.load_into(Image(**shape), Path(folder) / "out")
    assert torch.equal(loaded(x), frozen(x))
    assert report.tensor_bytes == plan.sizes.packed
    # The smallest change of an input may move its code by one.
    quantized_inputs = "activation_quantization" in ds_config["compression_training"]
    tolerance = 0.05 if quantized_inputs else 1e-5
    baked = copy.deepcopy(model)
    bake(baked)
    for other in (frozen, baked):
        assert torch.allclose(other(x), model(x), atol=tolerance)
    assert {name: tuple(m.weight.shape) for name, m in baked.named_children() if m.weight is not None} == {
        name: m.spec.shape if hasattr(m, "spec") else tuple(m.weight.shape)
        for name, m in frozen.named_children()
        if m.weight is not None
    }
