"""The table of layer kinds: orders of weights there and back, sizes, sides, and what the built-in kinds provide."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from xtc_ds.layer_kinds import (
    LayerKind,
    compressed_class,
    exactly,
    kind_of,
    kinds_with,
    layer_kind,
    layer_kind_of,
    packed_class,
    weight_shape,
)
from xtc_ds.layers import swap_class
from xtc_ds.runtime import PackedConv2d, PackedEmbedding, PackedLinear

MODULES: dict[str, Any] = {
    "Linear": lambda: nn.Linear(3, 5),
    "Embedding": lambda: nn.Embedding(5, 3),
    "Conv1D": lambda: Conv1D(5, 3),
    "Conv2d": lambda: nn.Conv2d(3, 5, (2, 1)),
    "BatchNorm2d": lambda: nn.BatchNorm2d(5),
}
SHAPES = {"Linear": (5, 3), "Embedding": (5, 3), "Conv1D": (5, 3), "Conv2d": (5, 3, 2, 1), "BatchNorm2d": (5,)}


@pytest.mark.parametrize("name", MODULES)
def test_the_table_describes_the_module(name: str) -> None:
    module, kind = MODULES[name](), layer_kind(name)
    assert kind_of(module) == name
    assert layer_kind_of(module) is kind
    assert weight_shape(module) == SHAPES[name]
    assert [getattr(module, attribute) for attribute in kind.sizes] == [
        SHAPES[name][dim] for dim in kind.sizes.values()
    ]
    assert tuple(kind.outputs_first(module.weight).shape) == SHAPES[name]
    assert torch.equal(kind.as_stored(kind.outputs_first(module.weight)), module.weight)
    for key in kind.tensors:
        shape = kind.tensor_shape(key, SHAPES[name])
        assert shape is None or shape == tuple(getattr(module, key).shape)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "BatchNorm2d"])
def test_a_compressed_module_is_still_of_its_kind(name: str) -> None:
    module = swap_class(MODULES[name]())
    assert type(module) is compressed_class(name)
    assert module.layer_kind is layer_kind_of(module) is layer_kind(name)  # type: ignore[arg-type]
    packed = packed_class(str(module.layer_kind.packed))
    assert packed in (PackedLinear, PackedEmbedding, PackedConv2d)
    assert packed.dimensions == len(SHAPES[name])


def test_a_weight_may_be_stored_in_any_order() -> None:
    kind = LayerKind("Turned", exactly(nn.Module), "linear", {"weight": ("out", "in", None)}, stored_order=(1, 2, 0))
    w = torch.arange(24).reshape(2, 3, 4)
    stored = kind.as_stored(w)
    assert tuple(stored.shape) == kind.stored_shape((2, 3, 4)) == kind.tensor_shape("weight", (2, 3, 4)) == (3, 4, 2)
    assert torch.equal(kind.outputs_first(stored), w)
    assert kind.dims("weight") == {"in": 0, "out": 2}
    assert kind.dims("weight", stored=False) == {"out": 0, "in": 1}
    assert kind.dims("gate") == {}


def test_each_group_of_a_convolution_reads_its_part_of_the_channels() -> None:
    module = nn.Conv2d(8, 4, 3, groups=2)
    assert weight_shape(module) == (4, 4, 3, 3)
    layer_kind("Conv2d").set_sizes(module, (2, 3, 3, 3))
    assert (module.out_channels, module.in_channels) == (2, 6)


def test_operations_choose_kinds_and_subclasses_are_of_none() -> None:
    assert kinds_with("linear") == ("Linear", "Conv1D")
    assert kinds_with("linear", "embedding", "convolution") == ("Linear", "Embedding", "Conv1D", "Conv2d")
    assert kind_of(nn.modules.linear.NonDynamicallyQuantizableLinear(2, 2)) is None
    assert weight_shape(nn.LayerNorm((2, 3))) == (2, 3)
