"""Sparse weights take fewer bytes on disk, exactly as many as planned, and come back as they were trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import xtc_ds
from tests.checkpoint.pruned_models import config, network, pruning
from tests.pruning.masks import pruning_rows
from tests.tiny import batch, tiny_model
from xtc_ds.layers import compressed_layers, set_step
from xtc_ds.runtime import PackedConv2d, PackedLayer, PackedLinear

INPUTS = batch(labels=False)
NAME = "bert.encoder.layer.0.intermediate.dense"


def sparse(ratio: float, modules: str, pattern: str | None = None) -> Any:
    block = pruning("sparse", ratio, modules, method="l1" if pattern is None else "snip_momentum")
    if pattern is not None:
        block["sparse_pruning"]["shared_parameters"] |= {"schedule_offset_end": 1, "block_pattern": pattern}
    return block


def shipped(block: Any, quantized: dict[str, Any] | None, folder: Path) -> tuple[Any, int]:
    """(frozen, bytes of its tensors); logits of the reloaded model are equal, and bytes as planned."""
    model = tiny_model(layers=1).eval()
    plan = xtc_ds.compress(model, config(block, quantized=quantized))
    for _, layer in compressed_layers(model):
        for rule in pruning_rows(layer):
            if rule.method == "snip_momentum":
                layer.sparse_pruning_mask[:] = torch.tensor([1.0, 0.0, 0.0, 1.0]).repeat(rule.shape[1] // 4)  # type: ignore[index, operator]
    set_step(model, 1)
    frozen: Any = xtc_ds.freeze(model)
    report = xtc_ds.export_packed(frozen, folder)
    with torch.no_grad():
        expected = frozen(**INPUTS).logits
        for loaded in (xtc_ds.load(folder), xtc_ds.load_into(tiny_model(layers=1), folder)):
            assert torch.equal(loaded(**INPUTS).logits, expected)
        assert torch.allclose(expected, model(**INPUTS).logits, atol=1e-2)
    assert report.tensor_bytes == plan.sizes.packed
    return frozen, report.tensor_bytes


@pytest.mark.parametrize(
    ("quantized", "ratio", "pattern", "bits"),
    [
        ({"bits": 8}, 0.5, None, 5),
        ({"bits": 4}, 0.5, "2:4", 2.75),
        ({"bits": 4}, 0.25, None, 2),
        ({"bits": 1}, 0.5, "2:4", 1.25),
        ({"bits": 1, "activation": None}, 0.25, None, 1.25),
        ({"bits": 4, "shared": {"quantization_type": "asymmetric"}}, 0.5, None, 3),
        ({"bits": 2}, 0.5, None, 1.6),
        (None, 0.5, None, 17),
        (None, 0.5, "2:4", 16.75),
        (None, 0.99, None, 32),
    ],
    ids=str,
)
def test_a_sparse_weight_takes_as_few_bytes_as_it_can(
    quantized: dict[str, Any] | None, ratio: float, pattern: str | None, bits: float, tmp_path: Path
) -> None:
    """bits: per weight of the layer, mask included."""
    frozen, _ = shipped(sparse(ratio, "intermediate", pattern), quantized, tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    stored = [value for name, value in tensors.items() if name in (f"{NAME}.weight", f"{NAME}.weight_mask")]
    size = sum(value.numel() * value.element_size() for value in stored)
    assert size == pytest.approx(64 * 32 * bits / 8, abs=1)
    layer = frozen.get_submodule(NAME)
    assert isinstance(layer, PackedLinear) == (quantized is not None or ratio < 0.9)
    if quantized is not None:
        zeros = layer.dense_weight() == 0
        assert int(zeros.sum()) >= (1 - ratio) * zeros.numel()


def test_convolutions_keep_n_of_m_channels(tmp_path: Path) -> None:
    block = sparse(0.5, "conv1|depthwise", "2:4")
    block["sparse_pruning"]["different_groups"]["all"]["modules"] = ["layers.0.conv1|layers.1.conv1"]
    for place, quantized in enumerate((None, {"bits": 3, "exclude": ["^(?!.*conv1)"], "activation": None})):
        model = network()
        plan = xtc_ds.compress(model, config(block, quantized=quantized))
        for _, layer in compressed_layers(model):
            if pruning_rows(layer):
                layer.sparse_pruning_mask[:, ::2] = 0  # type: ignore[index, operator]
        set_step(model, 1)
        frozen = xtc_ds.freeze(model)
        report = xtc_ds.export_packed(frozen, tmp_path / str(place))
        loaded: Any = xtc_ds.load_into(network(), tmp_path / str(place))
        images = torch.randn(2, 3, 8, 8)
        assert torch.equal(loaded(images), frozen(images))
        assert report.tensor_bytes == plan.sizes.packed
        assert isinstance(loaded.layers[0].conv1, PackedConv2d)
        assert loaded.layers[0].conv1.spec.sparse.places.pattern == (2, 4)


def test_a_mask_on_its_way_is_stored_as_it_is(tmp_path: Path) -> None:
    model = tiny_model(layers=1).eval()
    xtc_ds.compress(model, config(sparse(0.5, "intermediate", "2:4"), quantized={"bits": 8}))
    layer = model.get_submodule(NAME)
    layer.sparse_pruning_mask[:7, ::2] = 0  # type: ignore[index, operator]
    frozen: Any = xtc_ds.freeze(model)
    assert frozen.get_submodule(NAME).spec.sparse is None  # most are kept still
    layer.sparse_pruning_mask[:50] = 0  # type: ignore[index, operator]
    frozen = xtc_ds.freeze(model)
    assert frozen.get_submodule(NAME).spec.sparse.places.pattern is None
    xtc_ds.export_packed(frozen, tmp_path / "out")
    loaded: Any = xtc_ds.load(tmp_path / "out")
    assert torch.equal(loaded.get_submodule(NAME).dense_weight(), frozen.get_submodule(NAME).dense_weight())


def test_a_sparse_layer_computes_the_same_in_every_runtime() -> None:
    model = tiny_model(layers=1).eval()
    xtc_ds.compress(model, config(sparse(0.5, "intermediate"), quantized={"bits": 8, "shared": {"granularity": "row"}}))
    set_step(model, 1)
    frozen: Any = xtc_ds.freeze(model)
    assert any(isinstance(m, PackedLayer) and m.spec.sparse for m in frozen.modules())
    packed = frozen(**INPUTS).logits
    xtc_ds.set_runtime(frozen, "unpacked")
    assert torch.equal(frozen(**INPUTS).logits, packed)


class Twice(nn.Module):
    """One float weight in two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(self.first(x).relu())
        return out


@pytest.mark.parametrize("quantized", [None, {"bits": 8, "exclude": [], "export": "float32"}], ids=str)
def test_tied_sparse_weights_are_stored_once(quantized: dict[str, Any] | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Twice(), torch.randn(3, 16)
    plan = xtc_ds.compress(model, config(sparse(0.25, "first|second"), quantized=quantized))
    set_step(model, 1)
    frozen = xtc_ds.freeze(model)
    report = xtc_ds.export_packed(frozen, tmp_path / "out")
    loaded = xtc_ds.load_into(Twice(), tmp_path / "out")
    assert torch.equal(loaded(x), frozen(x))
    assert report.tensor_bytes == plan.sizes.packed
    assert torch.allclose(frozen(x), model(x), atol=1e-5)
