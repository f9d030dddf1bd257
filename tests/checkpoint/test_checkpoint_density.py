"""A mask that is built up step by step, shipped before it is final: the model is denser than planned, and says so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

import xtc_ds
from tests.checkpoint.pruned_models import config
from tests.tiny import tiny_model
from xtc_ds.freezing.bake import bake
from xtc_ds.layers import compressed_layers, set_step

PATTERNS = pytest.mark.parametrize("pattern", ["4x1", "2:4", None])


def gradual(pattern: str | None, method: str = "snip_momentum") -> Any:
    params = {"method": method, "dense_ratio": 0.5, "schedule_offset": 0, "schedule_offset_end": 8}
    shared: dict[str, Any] = {"enabled": True, **params, **({"block_pattern": pattern} if pattern else {})}
    if method != "snip_momentum":
        del shared["schedule_offset_end"]
    groups = {"g": {"params": {"dense_ratio": 0.5}, "modules": ["query|pooler"]}}
    return {"sparse_pruning": {"shared_parameters": shared, "different_groups": groups}}


def model_at(step: int, pattern: str | None, renewed: bool = True, method: str = "snip_momentum") -> Any:
    model = tiny_model(layers=2)
    xtc_ds.compress(model, config(gradual(pattern, method)))
    for _, layer in compressed_layers(model):
        if renewed and method == "snip_momentum":
            layer.snip_momentum.scores.copy_(torch.rand_like(layer.snip_momentum.scores))  # type: ignore[attr-defined]
            layer.weight_transforms[0].renew(layer, step)  # type: ignore[attr-defined]
    set_step(model, step)
    return model


def warnings(ship: Callable[[Any], Any], model: Any, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="xtc_ds"):
        ship(model)
    return [record.getMessage() for record in caplog.records]


@PATTERNS
@pytest.mark.parametrize("ship", [xtc_ds.freeze, bake])
def test_a_mask_that_is_not_final_is_named(ship: Any, pattern: str | None, caplog: pytest.LogCaptureFixture) -> None:
    (message,) = warnings(ship, model_at(2, pattern), caplog)
    # 1 - 0.5 * (1 - (1 - 2 / 8)^3)
    assert "'bert.encoder.layer.0.attention.self.query' keeps 0.711 of its weights instead of 0.5," in message
    assert "(3 modules)" in message
    assert "8 applied steps" in message


@PATTERNS
@pytest.mark.parametrize("ship", [xtc_ds.freeze, bake])
def test_a_final_mask_is_not(ship: Any, pattern: str | None, caplog: pytest.LogCaptureFixture) -> None:
    assert warnings(ship, model_at(8, pattern), caplog) == []


def test_a_mask_that_nobody_renewed_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """A training loop of one's own, without the engine that does it."""
    (message,) = warnings(xtc_ds.freeze, model_at(20, "4x1", renewed=False), caplog)
    assert "keeps 1 of its weights instead of 0.5" in message
    assert "renews the masks" in message


@pytest.mark.parametrize("method", ["l1", "topk"])
def test_masks_that_are_made_at_once_are_final(method: str, caplog: pytest.LogCaptureFixture) -> None:
    assert warnings(xtc_ds.freeze, model_at(0, None, method=method), caplog) == []
