"""Formats with learned parts from the block to the reloaded file. A new one is a row of FORMATS."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import xtc_ds
from tests.checkpoint.pruned_models import config, pruning, transformer_pruning
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.checkpoint.inspection import inspect_folder
from xtc_ds.errors import ConfigError
from xtc_ds.formats import format_names, get_format
from xtc_ds.layers import compressed_layers, set_step
from xtc_ds.plan.report import plan_to_dict
from xtc_ds.techniques.weight_quantization.learned_parts import LearnedParts, learned_parts_of

# The key "format", and bits.
FORMATS = [("kmeans", 1), ("kmeans", 3), ("kmeans", 8)]
INPUTS = batch(labels=False)


def learned_model(
    name: str, bits: int, granularity: str = "tensor", assignment: str = "fixed", offset: int = 0, **extra: Any
) -> Any:
    model = tiny_model(layers=1, **extra)
    params = {"format": name, "assignment": assignment}
    shared = {"granularity": granularity, "schedule_offset": offset}
    xtc_ds.compress(model, ds_config(block(bits, None, params=params, shared=shared, exclude=["classifier"])))
    return model


def trained(model: Any, steps: int = 3, optimizer: Any = None) -> Any:
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(steps):
        model(**batch(seed=step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        set_step(model, step + 1)
    return model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(**INPUTS).logits
    return result


def test_every_learned_format_is_tested() -> None:
    learned = {name.rstrip("0123456789") for name in format_names() if get_format(name).learned}
    assert {name for name, _ in FORMATS} == learned


@pytest.mark.parametrize("granularity", ["tensor", "row"])
@pytest.mark.parametrize("assignment", ["fixed", "nearest"])
@pytest.mark.parametrize(("name", "bits"), FORMATS)
def test_what_is_trained_is_shipped_to_the_bit(
    name: str, bits: int, assignment: str, granularity: str, tmp_path: Path
) -> None:
    model = learned_model(name, bits, granularity, assignment)
    before = copy.deepcopy(model.state_dict())
    trained(model)
    after = model.state_dict()
    layers = list(compressed_layers(model))
    assert len(layers) == 10
    for key, layer in layers:
        learned = learned_parts_of(layer)
        assert learned is not None
        assert any(bool(p.any()) for p in learned.parameters()), key
        moved = not torch.equal(before[f"{key}.weight"], after[f"{key}.weight"])
        assert moved == (assignment == "nearest"), key
    frozen = xtc_ds.freeze(model, "float32")
    assert torch.equal(logits(frozen), logits(model))
    report = xtc_ds.export_packed(frozen, tmp_path / "out")
    assert torch.equal(logits(xtc_ds.load(tmp_path / "out")), logits(frozen))
    for runtime in ("unpacked", "fused"):
        assert torch.allclose(logits(xtc_ds.load(tmp_path / "out", runtime=runtime)), logits(frozen), atol=1e-5)
    planned = sum(buffer.nbytes for buffer in [*frozen.buffers(), *frozen.parameters()])
    ids = [buffer for key, buffer in frozen.named_buffers() if key.endswith(("position_ids", "token_type_ids"))]
    assert report.tensor_bytes == planned - sum(buffer.nbytes for buffer in ids)
    xtc_ds.bake(model)
    assert not any(isinstance(module, LearnedParts) for module in model.modules())
    assert torch.equal(logits(model), logits(frozen))


def test_sizes_are_those_that_were_planned(tmp_path: Path) -> None:
    model = tiny_model(layers=1)
    plan = xtc_ds.compress(model, ds_config(block(3, None, params={"format": "kmeans"}, exclude=["classifier"])))
    rows = {row["module"]: row for row in plan_to_dict(plan)["modules"]}
    assert {(row["format"], row["assignment"]) for row in rows.values()} == {("kmeans3", "fixed")}
    report = xtc_ds.export_packed(model, tmp_path / "out")
    assert report.tensor_bytes == plan.sizes.packed
    inspection = inspect_folder(tmp_path / "out")
    assert inspection.main_format == "kmeans3"
    codes = {entry.name: entry for entry in inspection.tensors}["bert.encoder.layer.0.output.dense.weight"]
    assert codes.bits_per_weight == 3


def test_a_late_start_takes_the_weights_of_that_time() -> None:
    model = learned_model("kmeans", 2, offset=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)  # made before there is a codebook
    layer: Any = model.bert.encoder.layer[0].output.dense
    assert not learned_parts_of(layer).started
    model(**batch(seed=0)).loss.backward()
    optimizer.step()
    set_step(model, 2)
    expected = get_format("kmeans2").encode(layer.weight.detach().reshape(1, -1))
    assert torch.equal(learned_parts_of(layer).parts()["codebook"], expected.parts["codebook"])
    assert torch.equal(learned_parts_of(layer).codes.reshape(1, -1), expected.codes)
    trained(model, 1, optimizer)
    assert learned_parts_of(layer).codebook.any()


def test_a_checkpoint_brings_codebooks_and_codes() -> None:
    model, other = trained(learned_model("kmeans", 2)), learned_model("kmeans", 2)
    other.load_state_dict(model.state_dict())
    set_step(other, 3)
    assert torch.equal(logits(other.eval()), logits(model))
    late = learned_model("kmeans", 2, offset=5)
    late.load_state_dict(learned_model("kmeans", 2, offset=5).state_dict())
    assert not any(parts.started for _, layer in compressed_layers(late) if (parts := learned_parts_of(layer)))


def test_a_shared_weight_has_one_codebook(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(30, 8), nn.Linear(8, 30, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.head(self.table(ids))
            return result

    model = Tied()
    xtc_ds.compress(
        model, ds_config(block(2, None, params={"format": "kmeans"}, shared={"granularity": "row"}, exclude=[]))
    )
    assert learned_parts_of(model.table) is learned_parts_of(model.head)
    model(torch.arange(30)).square().sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    frozen = xtc_ds.freeze(model, "float32")
    assert torch.equal(frozen(torch.arange(30)), model(torch.arange(30)))
    report = xtc_ds.export_packed(frozen, tmp_path / "out")
    assert report.tensor_bytes == 30 * 8 // 4 + 30 * 4 * 4
    loaded = xtc_ds.load_into(Tied(), tmp_path / "out")
    assert torch.equal(loaded(torch.arange(30)), frozen(torch.arange(30)))


@pytest.mark.parametrize("kind", ["gpt2", "conv"])
def test_other_kinds_of_layers(kind: str) -> None:
    params, shared = {"format": "kmeans"}, {"granularity": "row"}
    if kind == "conv":
        model: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
        inputs: Any = (torch.randn(2, 3, 4, 4),)
        xtc_ds.compress(model, ds_config(block(2, None, params=params, shared=shared, exclude=[])))
        model(*inputs).sum().backward()
        assert torch.equal(xtc_ds.freeze(model, "float32")(*inputs), model(*inputs))
        return
    model = tiny_model("gpt2", layers=1)
    xtc_ds.compress(model, ds_config(block(2, 8, params=params, shared=shared)))
    trained(model)
    assert torch.allclose(logits(xtc_ds.freeze(model, "float32")), logits(model), atol=1e-5)


@pytest.mark.parametrize(
    ("bits", "params", "message"),
    [
        (4, {"assignment": "nearest"}, "assignment: has no effect on format"),
        (4, {"format": "integer", "assignment": "fixed"}, "which learns nothing; leave it out"),
        (4, {"format": "kmeans", "assignment": "soft"}, "assignment"),
        (4, {"format": "kmeans", "start_bits": 8}, r"one codebook from the start; found 8; allowed: 4 \(target_bits\)"),
        (1.58, {"format": "kmeans"}, "format: does not fit target_bits 1.58"),
        (4, {"format": "kmeans", "quantization_type": "asymmetric"}, "does not fit quantization_type"),
    ],
)
def test_what_makes_no_sense_is_refused(bits: float, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        xtc_ds.compress(tiny_model(), ds_config(block(bits, None, params=params)))


@pytest.mark.parametrize("kind", ["sparse", "pattern", "rows", "cut"])
@pytest.mark.parametrize("granularity", ["tensor", "row"])
def test_pruning_goes_with_codebooks(kind: str, granularity: str, tmp_path: Path) -> None:
    blocks = {
        "sparse": [pruning("sparse", 0.3, "output\\.dense|query")],
        "pattern": [pruning("sparse", 0.5, "output\\.dense|query", block_pattern="2:4", method="snip_momentum")],
        "rows": [pruning("row", 0.5, "intermediate\\.dense")],
        "cut": transformer_pruning("bert"),
    }
    quantized = {"bits": 3, "params": {"format": "kmeans"}, "shared": {"granularity": granularity}, "export": "float32"}
    model = tiny_model(layers=1, num_attention_heads=4)
    if kind == "pattern":
        blocks[kind][0]["sparse_pruning"]["shared_parameters"] |= {
            "schedule_offset_end": 1,
            "schedule_offset_stride": 1,
        }
    xtc_ds.compress(model, config(*blocks[kind], quantized={**quantized, "activation": None}))
    trained(model, 2)
    frozen = xtc_ds.freeze(model)
    assert torch.allclose(logits(frozen), logits(model), atol=1e-5)
    xtc_ds.export_packed(frozen, tmp_path / "out")
    assert torch.equal(logits(xtc_ds.load(tmp_path / "out")), logits(frozen))
    xtc_ds.bake(model)
    assert torch.allclose(logits(model), logits(frozen), atol=1e-5)
