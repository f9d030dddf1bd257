"""The launcher rehearses a compression on models without weights, under the same rules as ``initialize``."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import BartConfig

from tests import tiny
from xtc_ds.config import parse_block
from xtc_ds.errors import ConfigError, DistillationError, PlanError
from xtc_ds.launcher import get_task
from xtc_ds.launcher.setup import rehearse_without_weights

LOGITS_ONLY: dict[str, Any] = {"logits_weight": 1, "hidden_weight": 0, "attention_weight": 0}


def rehearse_bart(kd: dict[str, Any], **more: Any) -> None:
    """A classifier with two lists of three layers: encoder and decoder."""
    sides = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in
             (("layers", 3), ("attention_heads", 2), ("ffn_dim", 32))}  # fmt: skip
    config = BartConfig(vocab_size=100, d_model=16, max_position_embeddings=32, pad_token_id=1, eos_token_id=2, **sides)
    block = tiny.block(activation=None, kd=kd, exclude=["shared|embed", "classification_head"], **more)
    rehearse_without_weights(config, get_task("sst2"), parse_block(block))


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_the_stack_that_kd_names_is_distilled(side: str) -> None:
    rehearse_bart({"module_name_prefix": f"model.{side}.layers"})


def test_kd_and_layer_reduction_may_name_different_stacks() -> None:
    reduction = {"module_name_prefix": "model.encoder.layers", "teacher_layer": [0, 2]}
    rehearse_bart({"module_name_prefix": "model.decoder.layers", "layer_map": [0, 1, 2]}, reduction=reduction)
    with pytest.raises(ConfigError, match="each of the student's 2 layers"):
        rehearse_bart({"layer_map": [0, 1, 2]}, reduction=reduction)


def test_several_stacks_must_be_told_apart() -> None:
    with pytest.raises(PlanError, match=r"kd: several lists of layers: .*; name one in module_name_prefix"):
        rehearse_bart({"temperature": 1.0})
    with pytest.raises(PlanError, match=r"kd.module_name_prefix: 'decoder.layers' is not a list of layers"):
        rehearse_bart({"module_name_prefix": "decoder.layers"})


def test_logits_alone_need_no_stack() -> None:
    rehearse_bart(LOGITS_ONLY)


def test_the_teachers_type_is_checked_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xtc_ds.engine.rehearsal.device_type", lambda model: "xpu")
    with pytest.raises(DistillationError, match="no integer product on xpu"):
        rehearse_bart({**LOGITS_ONLY, "teacher_dtype": "int8"})
