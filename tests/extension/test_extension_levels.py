"""A weight format registered from outside: asked for by name, trained, shipped, decoded elsewhere like the built-in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import xtc_ds
from tests.extension.toy_levels import register
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds import format_choices
from xtc_ds.errors import ConfigError, FormatError
from xtc_ds.formats import get_format, registry
from xtc_ds.layers import compressed_layers, set_step
from xtc_ds.runtime import PackedLayer
from xtc_ds.techniques.weight_quantization.learned_parts import learned_parts_of

INPUTS = batch(labels=False)


@pytest.fixture
def two_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((format_choices, "_CHOICES"), (registry, "_FORMATS")):
        monkeypatch.setattr(module, name, dict(getattr(module, name)))
    monkeypatch.setattr(registry, "_MODULES", set(registry._MODULES))
    register()


def compressed(granularity: str = "tensor", assignment: str = "nearest", activation: int | None = None) -> Any:
    model = tiny_model(layers=1)
    params = {"format": "two_levels", "assignment": assignment}
    shared = {"granularity": granularity}
    xtc_ds.compress(model, ds_config(block(1, activation, params=params, shared=shared, exclude=["classifier"])))
    return model


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(**INPUTS).logits
    return result


def test_a_format_that_nobody_registered_is_refused() -> None:
    with pytest.raises(ConfigError, match='unknown value; found "two_levels"'):
        compressed()
    with pytest.raises(FormatError, match="unknown weight format 'two_levels1'"):
        get_format("two_levels1")


@pytest.mark.usefixtures("two_levels")
@pytest.mark.parametrize("granularity", ["tensor", "row"])
@pytest.mark.parametrize("assignment", ["fixed", "nearest"])
def test_what_is_trained_is_shipped_to_the_bit(granularity: str, assignment: str, tmp_path: Path) -> None:
    model = compressed(granularity, assignment)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(3):
        model(**batch(seed=step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        set_step(model, step + 1)
    for _, layer in compressed_layers(model):
        learned = learned_parts_of(layer)
        assert learned is not None
        assert learned.levels.any()
    frozen = xtc_ds.freeze(model.eval(), "float32")
    assert torch.equal(logits(frozen), logits(model))
    xtc_ds.export_packed(frozen, tmp_path / "out")
    assert torch.equal(logits(xtc_ds.load(tmp_path / "out")), logits(frozen))
    layer = frozen.bert.encoder.layer[0].output.dense
    assert isinstance(layer, PackedLayer)
    assert layer.spec.weight.packed_bytes(4) == 32 * 64 // 8 + 8 * (1 if granularity == "tensor" else 32)


@pytest.mark.usefixtures("two_levels")
def test_its_codes_are_never_multiplied(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from xtc_ds.engines import export_to

    frozen = xtc_ds.freeze(compressed("row", activation=8).eval(), "float32")
    export_to(frozen, tmp_path / "onnx", "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    zeros = np.zeros((4, 9), np.int64)
    (found,) = session.run(["logits"], {name: INPUTS[name].numpy() if name in INPUTS else zeros for name in names})
    assert np.allclose(found, logits(frozen).numpy(), atol=1e-4)


def test_a_package_brings_one_by_its_entry_point(tmp_path: Path) -> None:
    folder = tmp_path / "levels-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: levels\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[xtc_ds.formats]\ntwo_levels = tests.extension.toy_levels:register\n")
    code = "from xtc_ds.formats import get_format; print(get_format('two_levels1'))"
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": path}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "TwoLevels('two_levels1')"
