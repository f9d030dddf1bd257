"""Loading with accelerate's ``device_map``: its hooks go around packed layers as around any others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import xtc_ds
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.layers import set_step

pytest.importorskip("accelerate", reason="transformers places models with accelerate's help")

PARTS = ("bert.embeddings", "bert.encoder", "bert.pooler", "dropout", "classifier")
ON_CPU = dict.fromkeys(PARTS, "cpu")
MAPS: list[Any] = ["cpu", "auto", {"": "cpu"}, ON_CPU, {**ON_CPU, "bert.encoder": "disk"}]


@pytest.mark.parametrize("device_map", MAPS, ids=["cpu", "auto", "whole", "parts", "disk"])
@torch.no_grad()
def test_a_packed_folder_loads(device_map: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = tiny_model(layers=2).eval()
    xtc_ds.compress(model, ds_config(block()))
    set_step(model, 1)
    frozen, inputs = xtc_ds.freeze(model), batch(labels=False)
    xtc_ds.export_packed(frozen, tmp_path / "packed")
    options = {"device_map": device_map, "offload_folder": str(tmp_path / "offload")}
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "packed", **options)
    assert torch.equal(loaded(**inputs).logits, frozen(**inputs).logits)
