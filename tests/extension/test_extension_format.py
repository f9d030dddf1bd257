"""A weight format registered from outside is trained, frozen, exported and loaded like the built-in ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import xtc_ds
from tests import tiny
from tests.extension import toy_format
from xtc_ds import format_choices
from xtc_ds.errors import ConfigError
from xtc_ds.formats import get_format, registry

BATCH = tiny.batch(labels=False)


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(format_choices, "_CHOICES", dict(format_choices._CHOICES))
    monkeypatch.setattr(registry, "_FORMATS", dict(registry._FORMATS))
    monkeypatch.setattr(registry, "_MODULES", set(registry._MODULES))
    toy_format.register()


def config(**params: Any) -> dict[str, Any]:
    return tiny.ds_config(tiny.block(bits=3, params={"format": "power", **params}, export="float32"))


def test_it_is_unknown_before() -> None:
    with pytest.raises(ConfigError, match='format: .*found "power"'):
        xtc_ds.load_config(config())


@pytest.mark.usefixtures("power")
def test_it_packs_exactly() -> None:
    power3, w_GN = get_format("power3"), torch.randn(5, 37)
    encoded = power3.encode(w_GN)
    assert torch.equal(power3.unpack(power3.pack(encoded.codes), w_GN.numel()).reshape(5, 37), encoded.codes)
    assert torch.equal(power3.encode(encoded.decode()).decode(), encoded.decode())
    levels = (encoded.decode() / encoded.scale).abs().unique()
    assert set(levels.tolist()) <= {1.0, 0.5, 0.25, 0.125}


@pytest.mark.usefixtures("power")
@pytest.mark.parametrize("granularity", ["tensor", "row"])
def test_from_the_block_to_the_reloaded_file(granularity: str, tmp_path: Path) -> None:
    model = tiny.tiny_model()
    plan = xtc_ds.compress(model, config(granularity=granularity))
    assert {row.target_format.name for row in plan.weights} == {"power3"}
    model(**BATCH).logits.sum().backward()
    assert all(model.get_submodule(row.module).weight.grad is not None for row in plan.weights)
    frozen = xtc_ds.freeze(model)
    with torch.no_grad():
        expected, trained = frozen(**BATCH).logits, model.eval()(**BATCH).logits
    assert torch.allclose(expected, trained, atol=1e-4)
    report = xtc_ds.export_packed(frozen, tmp_path / "packed")
    assert report.tensor_bytes == plan.sizes.packed
    with torch.no_grad():
        assert torch.equal(xtc_ds.load(tmp_path / "packed")(**BATCH).logits, expected)
