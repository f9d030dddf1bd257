"""Every pruning of the config trains, reaches its ratio, and shrinks what it says it shrinks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import xtc_ds
from tests.pruning.configs import pruning
from tests.pruning.masks import kept_units, pruning_rows, sparse_mask
from tests.tiny import batch, ds_config, tiny_model
from xtc_ds.freezing.bake import bake
from xtc_ds.layers import compressed_layers, set_step

METHODS: dict[str, dict[str, Any]] = {
    "l1": {"method": "l1"},
    "topk": {"method": "topk"},
    "snip_momentum": {"method": "snip_momentum", "block_pattern": "4x1", "schedule_offset_end": 4},
    "two of four": {"method": "snip_momentum", "block_pattern": "2:4", "schedule_offset_end": 4},
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.usefixtures("single_process_group")
def test_sparse_pruning_trains_past_its_offset(name: str) -> None:
    """Each method reaches its offset without an error, keeps its share of the weights, and ships the zeros."""
    ratio: dict[str, Any] = {} if name == "two of four" else {"dense_ratio": 0.5}
    compression = pruning("sparse_pruning", {"sp": (["intermediate"], ratio)}, schedule_offset=2, **METHODS[name])
    model = tiny_model(layers=2)
    adam = {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}}
    config = ds_config(compression, optimizer=adam, zero_force_ds_cpu_optimizer=False)
    engine = xtc_ds.initialize(model=model, config=config, model_parameters=list(model.parameters()))[0]
    for step in range(6):
        loss = engine(**batch(seed=step)).loss
        engine.backward(loss)
        engine.step()
    [kept] = {float(sparse_mask(layer).float().mean()) for _, layer in compressed_layers(engine.module)}
    assert kept == 0.5
    frozen = xtc_ds.freeze(engine)
    engine.eval()
    inputs = batch(labels=False)
    assert torch.allclose(frozen(**inputs).logits, engine(**inputs).logits, atol=1e-5)
    bake(engine)
    assert float((model.bert.encoder.layer[0].intermediate.dense.weight != 0).float().mean()) == 0.5


class TwoPairs(nn.Module):
    """Two blocks of a wide layer and the layer that reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.wide_a, self.narrow_a = nn.Linear(8, 12), nn.Linear(12, 8)
        self.wide_b, self.narrow_b = nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.narrow_a(self.wide_a(x).relu())
        return x + self.narrow_b(self.wide_b(x).relu())


def pruned_pairs() -> Any:
    torch.manual_seed(3)
    model = TwoPairs()
    groups = {"rp": (["wide_a", "wide_b"], {"dense_ratio": 0.5}, [["narrow_a"], ["narrow_b"]])}
    xtc_ds.compress(model, ds_config(pruning("row_pruning", groups, schedule_offset=0)))
    set_step(model, 1)
    return model.eval()


@pytest.mark.parametrize("finish", ["freeze", "bake"])
def test_each_of_two_pairs_shrinks_by_its_own_mask(finish: str) -> None:
    """The second pair does not get the first one's rows: outputs are those of the masked model."""
    model, x = pruned_pairs(), torch.randn(5, 8)
    expected = model(x)
    masks = [kept_units(layer, pruning_rows(layer)[0]) for layer in (model.wide_a, model.wide_b)]
    assert not torch.equal(masks[0], masks[1])
    if finish == "freeze":
        small: Any = xtc_ds.freeze(model, "float32")
    else:
        bake(model)
        small = model
    assert torch.allclose(small(x), expected, atol=1e-6)
    shapes = {name: tuple(parameter.shape) for name, parameter in small.named_parameters()}
    for pair in "ab":
        assert shapes[f"wide_{pair}.weight"] == (6, 8)
        assert shapes[f"wide_{pair}.bias"] == (6,)
        assert shapes[f"narrow_{pair}.weight"] == (8, 6)
        assert shapes[f"narrow_{pair}.bias"] == (8,)


def test_the_file_of_a_pruned_model_is_smaller(tmp_path: Path) -> None:
    """Shrunk layers leave the file."""
    model = pruned_pairs()
    report = xtc_ds.export_packed(xtc_ds.freeze(model, "float32"), tmp_path / "out")
    assert report.tensor_bytes == 4 * 2 * (6 * 8 + 6 + 8 * 6 + 8)
