"""Checkpoints carry the compression along: to resume, to evaluate, to be consolidated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import xtc_ds
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.layers import compressed_layers

pytestmark = pytest.mark.usefixtures("single_process_group")

INPUTS = batch(labels=False)
OPTIONS: dict[str, Any] = {
    "bits": 8,
    "params": {"target_bits": 2, "quantization_period": 1},
    "shared": {"schedule_offset": 3, "quantize_weight_in_forward": False},
    "activation_shared": {"schedule_offset": 2},
}


def start(stage: int = 0, optimizer: bool = True) -> Any:
    more: dict[str, Any] = {"zero_optimization": {"stage": stage}}
    if optimizer:
        more["optimizer"] = {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}}
        more["zero_force_ds_cpu_optimizer"] = False
    model = tiny_model(layers=2)
    parameters = list(model.parameters()) if optimizer else None
    config = ds_config(block(**OPTIONS), **more)
    return xtc_ds.initialize(model=model, config=config, model_parameters=parameters)[0]


def train(engine: Any, steps: int, first: int = 0) -> list[float]:
    engine.train()
    losses = []
    for step in range(first, first + steps):
        loss = engine(**batch(seed=step)).loss
        engine.backward(loss)
        engine.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("stage", [0, 3])
def test_a_resumed_run_goes_on_in_the_schedule(stage: int, tmp_path: Path) -> None:
    """Offsets are not waited for again, and bits do not start anew."""
    engine = start(stage)
    train(engine, 5)
    assert engine.xtc.schedule.bits() == {"weights": {"all": 6}, "activations": {"all": 8}}
    engine.save_checkpoint(str(tmp_path))
    straight = train(engine, 3, 5)
    again = start(stage)
    assert again.xtc.schedule.bits() == {"weights": {"all": 32}, "activations": {"all": 32}}
    again.load_checkpoint(str(tmp_path))
    assert again.xtc.schedule.bits() == {"weights": {"all": 6}, "activations": {"all": 8}}
    assert train(again, 3, 5) == pytest.approx(straight, abs=1e-6)


def test_a_loaded_checkpoint_is_evaluated_as_it_was_trained(tmp_path: Path) -> None:
    """An engine without optimizer quantizes weights and activations at once, as the training one did."""
    engine = start()
    train(engine, 5)
    engine.save_checkpoint(str(tmp_path))
    engine.eval()
    expected = engine(**INPUTS).logits
    evaluating = start(optimizer=False)
    evaluating.eval()
    raw = evaluating(**INPUTS).logits
    evaluating.load_checkpoint(str(tmp_path), load_module_only=True)
    assert torch.equal(evaluating(**INPUTS).logits, expected)
    assert not torch.allclose(raw, expected, atol=1e-3)
    formats = {layer.weight_format.name for _, layer in compressed_layers(evaluating.module) if layer.weight_format}
    assert formats == {"int6"}
    layers = [layer for _, layer in compressed_layers(evaluating.module) if layer.coded_input_row]
    assert all(layer.input_coding is not None for layer in layers)


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_consolidated_weights_ship_what_the_engine_would(stage: int, tmp_path: Path) -> None:
    """The consolidated checkpoint holds latent weights: from them comes the very model that the engine freezes to."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    engine = start(stage)
    train(engine, 4)
    engine.save_checkpoint(str(tmp_path))
    expected: Any = xtc_ds.freeze(engine)
    if stage == 0:
        state = torch.load(tmp_path / "global_step4" / "mp_rank_00_model_states.pt", weights_only=False)["module"]
    else:
        state = get_fp32_state_dict_from_zero_checkpoint(str(tmp_path))
    assert len(state["bert.pooler.dense.weight"].unique()) > 500
    model = tiny_model(layers=2)
    xtc_ds.compress(model, ds_config(block(**OPTIONS)))
    model.load_state_dict(state)
    frozen: Any = xtc_ds.freeze(model)
    assert torch.equal(frozen(**INPUTS).logits, expected(**INPUTS).logits)
    assert frozen.bert.pooler.dense.spec.format == "ternary"


def test_a_packed_file_needs_no_engine_to_be_quantized(tmp_path: Path) -> None:
    """What ``from_pretrained`` loads computes with the shipped codes at once."""
    from transformers import AutoModelForSequenceClassification

    engine = start()
    train(engine, 2)
    frozen: Any = xtc_ds.freeze(engine)
    xtc_ds.export_packed(frozen, tmp_path / "packed")
    loaded: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "packed").eval()
    assert torch.allclose(loaded(**INPUTS).logits, frozen(**INPUTS).logits, atol=1e-6)
