"""A kind of layers registered from outside is planned, trained, pruned, frozen and shipped like the built-in ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import xtc_ds
from tests.checkpoint.pruned_models import config, pruning
from tests.extension.toy_layer import CompressedGatedLinear, GatedLinear, Gates, PackedGatedLinear, register
from xtc_ds.errors import ExportError, PlanError
from xtc_ds.layer_kinds import table
from xtc_ds.layers import set_step

INPUTS = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
OPTIONS = {"exclude": ["^head$"], "export": "float32"}
PRUNING = {
    "none": [],
    "zeros": [pruning("sparse", 0.5, "inner|outer")],
    "cut": [pruning("row", 0.5, "inner", ["outer"])],
}
CASES = [
    {"bits": 1},
    {"bits": 4, "activation": None, "shared": {"granularity": "row"}},
    {"bits": 8, "shared": {"quantization_type": "asymmetric", "granularity": "row"}},
]


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_KINDS", "_COMPRESSED", "_PACKED"):
        monkeypatch.setattr(table, name, dict(getattr(table, name)))
    register()


def gates() -> Gates:
    torch.manual_seed(3)
    return Gates().eval()


@torch.no_grad()
def outputs(model: nn.Module) -> torch.Tensor:
    result: torch.Tensor = model(INPUTS)
    return result


def test_a_class_that_nobody_registered_is_refused() -> None:
    with pytest.raises(PlanError, match="'inner' .* is a GatedLinear, whose own forward would be lost"):
        xtc_ds.make_plan(gates(), xtc_ds.load_config(config(quantized=OPTIONS))[1])


@pytest.mark.usefixtures("gated")
def test_the_plan_names_it() -> None:
    plan = xtc_ds.make_plan(gates(), xtc_ds.load_config(config(quantized=OPTIONS))[1])
    assert [(row.module, row.kind, row.shape) for row in plan.weights] == [
        ("inner", "GatedLinear", (24, 16)),
        ("outer", "GatedLinear", (12, 24)),
    ]


@pytest.mark.usefixtures("gated")
@pytest.mark.parametrize("pruned", PRUNING)
@pytest.mark.parametrize("options", CASES, ids=str)
def test_it_is_shipped_as_it_was_trained(options: dict[str, Any], pruned: str, tmp_path: Path) -> None:
    model = gates()
    plan = xtc_ds.compress(model, config(*PRUNING[pruned], quantized={**OPTIONS, **options}))
    set_step(model, 1)
    assert isinstance(model.inner, CompressedGatedLinear)
    expected = outputs(model)
    # The gradient reaches latent weights and gates.
    model(INPUTS).sum().backward()
    assert model.inner.weight.grad is not None and model.inner.gate.grad is not None
    frozen = xtc_ds.freeze(model)
    assert isinstance(frozen.inner, PackedGatedLinear)
    assert torch.allclose(outputs(frozen), expected, atol=1e-5)
    xtc_ds.export_packed(frozen, tmp_path)
    held = sum(tensor.nbytes for tensor in frozen.state_dict().values())
    assert held == plan.sizes.packed
    loaded = xtc_ds.load_into(gates(), tmp_path)
    assert isinstance(loaded.inner, PackedGatedLinear)
    assert torch.equal(outputs(loaded), outputs(frozen))


@pytest.mark.usefixtures("gated")
@pytest.mark.parametrize("container", ["onnx", "openvino"])
def test_an_engine_that_does_not_know_it_writes_nothing(container: str, tmp_path: Path) -> None:
    pytest.importorskip(container)
    from xtc_ds.engines import export_to

    model = gates()
    xtc_ds.compress(model, config(quantized=OPTIONS))
    with pytest.raises(ExportError, match="'gated_linear' has no form in other engines"):
        export_to(model, tmp_path / "out", container, sample={"x": INPUTS})
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("gated")
def test_baking_cuts_its_own_tensors_too() -> None:
    model = gates()
    xtc_ds.compress(model, config(*PRUNING["cut"], quantized={**OPTIONS, "bits": 4, "activation": None}))
    set_step(model, 1)
    expected = outputs(model)
    xtc_ds.bake(model)
    assert type(model.inner) is GatedLinear
    assert (model.inner.gate.shape, model.inner.out_features, model.outer.in_features) == ((12,), 12, 12)
    assert torch.allclose(outputs(model), expected, atol=1e-5)


@pytest.mark.usefixtures("gated")
def test_a_name_is_taken_once() -> None:
    with pytest.raises(PlanError, match="layer kind 'GatedLinear' is registered already"):
        register()


@pytest.mark.slow
def test_a_package_brings_one_by_its_entry_point(tmp_path: Path) -> None:
    folder = tmp_path / "gates-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: gates\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[xtc_ds.layer_kinds]\ngated = tests.extension.toy_layer:register\n")
    code = (
        "from tests.extension.toy_layer import Gates; from xtc_ds.layer_kinds import kind_of, packed_kinds;"
        "print(kind_of(Gates().inner), 'gated_linear' in packed_kinds())"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": path}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["GatedLinear", "True"]
