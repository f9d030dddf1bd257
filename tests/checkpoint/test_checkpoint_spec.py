"""docs/format.md is enough to read a file: an independent reader agrees with ours; golden files stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import xtc_ds
from tests.checkpoint import golden_models
from tests.checkpoint.pruned_models import config, network, pruning, transformer_pruning
from tests.checkpoint.spec_reader import read_folder
from tests.tiny import block, ds_config, tiny_model
from xtc_ds.layers import set_step
from xtc_ds.runtime import PackedLayer

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = ["v1", "v2", "v3", "v4"]


def decoded(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every float tensor of a frozen model by name, packed weights as what they stand for."""
    result = {}
    layers = {name: module for name, module in model.named_modules() if isinstance(module, PackedLayer)}
    for name, value in model.state_dict().items():
        module, _, key = name.rpartition(".")
        if module in layers and (key == "weight" or key.startswith("weight_")):
            result[f"{module}.weight"] = layers[module].dense_weight()
        else:
            result[name] = value.float()
    return result


def assert_the_same(folder: Path, model: nn.Module) -> None:
    read, ours = read_folder(folder), decoded(model)
    for name, value in ours.items():
        if name in read:  # tied float weights are stored once
            # Sums of a factored weight may be taken in another order.
            same = np.allclose if "factors" in name else np.array_equal
            assert same(read[name], value.numpy()), name
    assert read.keys() <= ours.keys()
    assert len(read) > 3


@pytest.mark.parametrize("name", [*VERSIONS, "v1_no_checksums", "v2_no_checksums"])
def test_golden_files_are_read_by_the_spec_and_by_us(name: str) -> None:
    plain = golden_models.PLAIN[name[:2]]()
    loaded = xtc_ds.load_into(plain, GOLDEN / name)
    assert_the_same(GOLDEN / name, loaded)
    expected = decoded(golden_models.MODELS[name[:2]]())
    assert all(torch.equal(value, expected[key]) for key, value in decoded(loaded).items())


@pytest.mark.parametrize("name", [*VERSIONS, "v1_no_checksums", "v2_no_checksums"])
def test_golden_files_are_written_again_byte_for_byte(name: str, tmp_path: Path) -> None:
    xtc_ds.export_packed(xtc_ds.load_into(golden_models.PLAIN[name[:2]](), GOLDEN / name), tmp_path / "out")
    xtc_ds.export_packed(golden_models.MODELS[name[:2]](), tmp_path / "new")
    for file in ("config.json", "model.safetensors"):
        expected = (GOLDEN / name[:2] / file).read_bytes()
        assert (tmp_path / "out" / file).read_bytes() == expected
        assert (tmp_path / "new" / file).read_bytes() == expected


@pytest.mark.parametrize(
    "options",
    [
        {"bits": 1},
        {"bits": 2, "export": "bfloat16"},
        {"bits": 3, "shared": {"quantize_groups": 16}, "export": "float32"},
        {"bits": 3, "params": {"format": "kmeans"}, "shared": {"granularity": "row"}, "activation": None},
        {"bits": 6, "shared": {"quantization_type": "asymmetric", "granularity": "row"}, "exclude": ["classifier"]},
    ],
    ids=str,
)
def test_trained_models_are_read_by_the_spec(options: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_model(layers=1)
    xtc_ds.compress(model, ds_config(block(**options)))
    frozen = xtc_ds.freeze(model)
    xtc_ds.export_packed(frozen, tmp_path / "one")
    xtc_ds.export_packed(frozen, tmp_path / "many", max_shard_size="5KB")
    assert len(list((tmp_path / "many").glob("model-*"))) > 1
    for folder in ("one", "many"):
        assert_the_same(tmp_path / folder, frozen)


@pytest.mark.parametrize("bits", [None, 1, 2, 4])
def test_pruned_models_are_read_by_the_spec(bits: int | None, tmp_path: Path) -> None:
    blocks = [pruning("sparse", 0.25, "^stem$|conv1$", block_pattern=None), pruning("channel", 0.5, "conv2$")]
    quantized = None if bits is None else {"bits": bits, "exclude": [], "activation": None, "export": "float32"}
    model: Any = network()
    xtc_ds.compress(model, config(*blocks, quantized=quantized))
    set_step(model, 1)
    frozen = xtc_ds.freeze(model)
    xtc_ds.export_packed(frozen, tmp_path / "out")
    assert_the_same(tmp_path / "out", frozen)
    model = tiny_model(layers=2, num_attention_heads=4)
    xtc_ds.compress(model, config(*transformer_pruning("bert"), quantized=None if bits is None else {"bits": bits}))
    frozen = xtc_ds.freeze(model)
    xtc_ds.export_packed(frozen, tmp_path / "shrunk")
    assert_the_same(tmp_path / "shrunk", frozen)
