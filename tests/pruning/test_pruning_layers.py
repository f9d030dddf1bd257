"""Pruned layers against plain formulas: values, gradients, schedules, and what a layer keeps through copies."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tests.pruning.masks import kept_units, pruning_rows, sparse_mask
from xtc_ds.formats import Grouping, fake_quantize_weight
from xtc_ds.layers import CompressedLayer, swap_class
from xtc_ds.techniques.pruning.unit_rows import StructuredRow
from xtc_ds.techniques.registry import technique_named
from xtc_ds.techniques.sparse_pruning.rows import SparseRow
from xtc_ds.techniques.sparse_pruning.transform import SparseMask
from xtc_ds.techniques.weight_quantization.rows import WeightRow
from xtc_ds.techniques.weight_quantization.schedule import BitSchedule
from xtc_ds.techniques.weight_quantization.transform import QuantizedWeight


def sparse(shape: tuple[int, ...], method: str = "l1", kind: str = "Linear", **changes: Any) -> SparseRow:
    values: dict[str, Any] = {"dense_ratio": 0.5, "block_pattern": None, "offset": 0, "end": 0, "stride": 1}
    return SparseRow(module="m", kind=kind, group="g", shape=shape, method=method, **{**values, **changes})  # type: ignore[arg-type]


def structured(
    technique: str, shape: tuple[int, ...], method: str, units: int, kind: str = "Linear", offset: int = 0
) -> StructuredRow:
    return StructuredRow("m", kind, "g", technique, shape, method, units, units // 2, offset, ())  # type: ignore[arg-type]


def pruned(module: nn.Module, *rules: SparseRow | StructuredRow, step: int | None = 0) -> Any:
    layer = swap_class(module)
    for rule in rules:
        technique = "sparse" if isinstance(rule, SparseRow) else rule.technique
        technique_named(f"{technique}_pruning").mask_class(rule).attach(layer)  # type: ignore[attr-defined]
    if step is not None:
        layer.set_step(step)
    return layer


def half(scores: Tensor) -> Tensor:
    """1 for the larger half."""
    return (scores >= scores.flatten().sort(descending=True).values[scores.numel() // 2 - 1]).to(scores.dtype)


@pytest.mark.parametrize("method", ["l1", "topk"])
def test_a_linear_multiplies_with_all_its_masks(method: str) -> None:
    layer = pruned(
        nn.Linear(8, 6),
        sparse((6, 8), method),
        structured("row", (6, 8), method, 6),
        structured("head", (6, 8), method, 4),
    )
    w, b, x = layer.weight.detach(), layer.bias.detach(), torch.randn(3, 8)
    if method == "l1":
        scores = w.abs(), w.abs().sum(1), w.t().reshape(4, -1).abs().sum(1)
    else:
        scores = layer.sparse_mask_scores, layer.row_mask_scores.flatten(), layer.head_pruning_scores.flatten()
    single, rows, heads = (half(score.detach()) for score in scores)
    expected = F.linear(x, w * single * rows[:, None] * heads.repeat_interleave(2), b * rows)
    assert torch.allclose(layer(x), expected, atol=1e-6)
    assert torch.equal(sparse_mask(layer), single.bool())
    assert torch.equal(kept_units(layer, pruning_rows(layer)[1]), rows.bool())
    assert torch.equal(kept_units(layer, pruning_rows(layer)[2]), heads.bool())


def test_scores_get_the_gradient_of_their_mask() -> None:
    layer = pruned(
        nn.Linear(8, 6),
        sparse((6, 8), "topk"),
        structured("row", (6, 8), "topk", 6),
        structured("head", (6, 8), "topk", 4),
    )
    x = torch.randn(3, 8)
    layer(x).square().sum().backward()
    w, b = (p.detach().clone().requires_grad_() for p in (layer.weight, layer.bias))
    scores = [layer.sparse_mask_scores, layer.row_mask_scores.flatten(), layer.head_pruning_scores.flatten()]
    single, rows, heads = (half(score.detach()).requires_grad_() for score in scores)
    F.linear(x, w * single * rows[:, None] * heads.repeat_interleave(2), b * rows).square().sum().backward()
    pairs = [
        (layer.weight, w),
        (layer.bias, b),
        (layer.sparse_mask_scores, single),
        (layer.row_mask_scores, rows),
        (layer.head_pruning_scores, heads),
    ]
    for found, expected in pairs:
        assert torch.allclose(found.grad.flatten(), expected.grad.flatten(), atol=1e-5)


def test_scores_of_a_frozen_weight_are_trained_and_the_weight_is_not() -> None:
    module = nn.Linear(8, 6).requires_grad_(False)
    layer = pruned(module, sparse((6, 8), "topk"))
    layer(torch.randn(3, 8)).sum().backward()
    assert layer.weight.grad is None
    assert not layer.weight.requires_grad
    assert layer.sparse_mask_scores.grad.abs().sum() > 0


def test_weights_are_quantized_before_they_are_pruned() -> None:
    row = WeightRow("m", "Linear", "g", (6, 8), BitSchedule(0, 1, 1, 1), Grouping("tensor"), True, "auto")
    layer = swap_class(nn.Linear(8, 6))
    layer.weight_transforms = (QuantizedWeight(row),)
    SparseMask(sparse((6, 8))).attach(layer)
    layer.set_step(0)
    codes = fake_quantize_weight(layer.weight.detach(), layer.weight_format, Grouping("tensor"))
    found = layer.in_force(layer.weight, layer.bias)[0]
    # The scale is the mean of all magnitudes, also of those that the mask takes out.
    assert torch.equal(found, codes * layer.sparse_pruning_mask)


@pytest.mark.parametrize("method", ["l1", "topk"])
def test_conv1d_is_pruned_as_the_linear_it_stands_for(method: str) -> None:
    linear, conv = nn.Linear(8, 6), Conv1D(6, 8)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.t())
        conv.bias.copy_(linear.bias)
    rules = [
        (sparse((6, 8), method, kind, block_pattern="2x2"), structured("row", (6, 8), method, 6, kind),
         structured("head", (6, 8), method, 4, kind))
        for kind in ("Linear", "Conv1D")
    ]  # fmt: skip
    torch.manual_seed(3)
    one = pruned(linear, *rules[0])
    torch.manual_seed(3)
    other = pruned(conv, *rules[1])
    x = torch.randn(2, 5, 8)
    assert torch.allclose(one(x), other(x), atol=1e-6)
    assert sparse_mask(other).shape == (6, 8)
    assert not torch.allclose(one(x), F.linear(x, linear.weight, linear.bias), atol=1e-3)


@pytest.mark.parametrize("method", ["l1", "topk"])
def test_a_convolution_loses_channels_with_their_bias_and_single_weights(method: str) -> None:
    shape = (6, 4, 3, 3)
    layer = pruned(
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
        sparse(shape, method, "Conv2d"),
        structured("channel", shape, method, 6, "Conv2d"),
    )
    x = torch.randn(2, 4, 5, 5)
    single = sparse_mask(layer).float()
    channels = kept_units(layer, pruning_rows(layer)[1]).float()
    assert (single.sum(), channels.sum()) == (108, 3)
    w, b = layer.weight.detach() * single * channels.view(-1, 1, 1, 1), layer.bias.detach() * channels
    expected = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), w, b)
    assert torch.allclose(layer(x), expected, atol=1e-6)
    assert (layer(x)[:, channels == 0] == 0).all()


@pytest.mark.parametrize("method", ["l1", "topk"])
def test_nothing_is_pruned_before_the_offset(method: str) -> None:
    module = nn.Linear(8, 6)
    x = torch.randn(3, 8)
    dense = module(x)
    layer = pruned(module, sparse((6, 8), method, offset=2, end=2), structured("row", (6, 8), method, 6, offset=3))
    masks = []
    for step in (0, 1, 2, 3):
        layer.set_step(step)
        masks.append((torch.equal(layer(x), dense), bool((layer(x) == 0).any())))
    # Rows are zero from step 3 on.
    assert masks == [(True, False), (True, False), (False, False), (False, True)]
    layer.set_step(0)
    assert sparse_mask(layer).sum() == 24


def test_a_mask_of_weights_is_fixed_when_it_is_made() -> None:
    layer = pruned(nn.Linear(8, 6), sparse((6, 8)))
    before = sparse_mask(layer)
    with torch.no_grad():
        layer.weight.mul_(torch.rand(6, 8))
    assert torch.equal(sparse_mask(layer), before)
    layer(torch.randn(2, 8)).sum().backward()
    assert (layer.weight.grad[~before] == 0).all()


def test_state_keeps_the_names_and_shapes_of_deepspeed() -> None:
    shape = (6, 8)
    fixed = pruned(nn.Linear(8, 6), sparse(shape), structured("row", shape, "l1", 6))
    learned = pruned(
        nn.Linear(8, 6),
        sparse(shape, "topk"),
        structured("row", shape, "topk", 6),
        structured("head", shape, "topk", 4),
    )
    channels = pruned(nn.Conv2d(4, 6, 3), structured("channel", (6, 4, 3, 3), "topk", 6, "Conv2d"))
    found = {
        key: tuple(value.shape) for layer in (fixed, learned, channels) for key, value in layer.state_dict().items()
    }
    del found["weight"], found["bias"]
    assert found == {
        "sparse_pruning_mask": (6, 8),
        "row_pruning_mask": (6, 1),
        "sparse_mask_scores": (6, 8),
        "row_mask_scores": (6, 1),
        "head_pruning_scores": (1, 4),
        "channel_mask_scores": (6, 1, 1, 1),
    }


@pytest.mark.parametrize("method", ["l1", "topk", "snip_momentum"])
def test_copies_and_pickles_compute_the_same(method: str) -> None:
    layer = pruned(nn.Linear(8, 6), sparse((6, 8), method))
    x = torch.randn(2, 8)
    expected = layer(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert isinstance(twin, CompressedLayer)
        assert torch.equal(twin(x), expected)
        twin(x).sum().backward()
    assert layer.weight.grad is None


def test_a_pruned_layer_in_half_precision_keeps_momentum_exact() -> None:
    layer = pruned(nn.Linear(8, 6), sparse((6, 8), "snip_momentum", block_pattern="2x1"))
    layer.snip_momentum.scores.fill_(1 / 3)
    layer.to(torch.bfloat16)
    assert layer.sparse_pruning_mask.dtype == torch.bfloat16
    assert layer.snip_momentum.scores.dtype == torch.float32
    assert (layer.snip_momentum.scores == torch.tensor(1 / 3)).all()
    assert layer(torch.randn(2, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16
