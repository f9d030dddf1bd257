"""MoQ mode, stochastic rounding and mixed quantization under the engine, on one rank."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import xtc_ds
from tests.engine.moq import PRECISIONS, WATCHED, moq_engine, old_quantizer, seen_weights, train
from tests.half_precision import allow_fp16
from tests.tiny import batch, tiny_model
from xtc_ds.layers import compressed_layers

pytestmark = pytest.mark.usefixtures("single_process_group")

FACTS = json.loads((Path(__file__).parents[1] / "parity" / "golden" / "facts.json").read_text())


def golden_bits(period: int) -> list[int]:
    """Bits by step of the old library, from 8 down to 2."""
    wanted = {"start": 8, "target": 2, "period": period}
    [case] = [case for case in FACTS["bits"] if {key: case[key] for key in wanted} == wanted]
    bits: list[int] = case["bits"]
    return bits


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_forward_sees_the_levels_that_the_schedule_asks_for(stage: int, precision: str) -> None:
    with allow_fp16():
        engine = moq_engine(stage, precision)
        with seen_weights(engine.module) as seen:
            losses = train(engine, 8)
    bits = golden_bits(period=0)[:8]
    assert bits == [8, 7, 6, 5, 4, 3, 2, 2]
    levels = [len(w.unique()) for w in seen]
    for found, wanted in zip(levels, bits, strict=True):
        assert found == 3 if wanted == 2 else 2 ** (wanted - 1) < found <= 2**wanted or wanted > 6, levels
    assert levels == sorted(levels, reverse=True)
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    assert {w.dtype for w in seen} == {dtypes[precision]}
    assert all(torch.tensor(losses).isfinite())
    assert engine.xtc.schedule.bits()["weights"]["all"] == 2


@pytest.mark.parametrize("precision", PRECISIONS)
def test_latent_weights_stay_unquantized(precision: str) -> None:
    with allow_fp16():
        engine = moq_engine(0 if precision == "fp32" else 2, precision)
        train(engine, 8)
    assert len(engine.module.get_submodule(WATCHED).weight.unique()) > 500


def old_training(model: Any, optimizer: Any, bits: list[int], ratio: float | None = None) -> list[float]:
    """The old loop: the weights of the forward are overwritten with Q(master) after each step."""
    matched = [layer.weight for _, layer in compressed_layers(model)]  # type: ignore[attr-defined]
    masters = [weight.detach().clone() for weight in matched]
    losses, share, previous = [], 1.0, bits[0]
    for step, now in enumerate(bits):
        share = 1.0 if now != previous else share
        previous = now
        for weight, master in zip(matched, masters, strict=True):
            mixed = 0.0 if ratio is None else share
            weight.data = mixed * master + (1 - mixed) * old_quantizer(master, now)
        loss = model(**batch(8, seed=step)).loss
        loss.backward()
        for weight, master in zip(matched, masters, strict=True):
            weight.data = master
        optimizer.step()
        optimizer.zero_grad()
        masters = [weight.detach().clone() for weight in matched]
        share = max(0.0, share - (ratio or 0.0))
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize(("period", "ratio"), [(0, None), (1, None), (1, 0.25)])
def test_the_losses_are_those_of_the_old_way(period: int, ratio: float | None) -> None:
    mixing: dict[str, Any] = (
        {} if ratio is None else {"fp16_mixed_quantize": {"enabled": True, "quantize_change_ratio": ratio}}
    )
    engine = moq_engine(params={"quantization_period": period}, **mixing)
    losses = train(engine, 10)
    # The compressed model without a step set computes as it did before; its weights are overwritten instead.
    reference = tiny_model(layers=2)
    xtc_ds.compress(reference, copy.deepcopy(engine.xtc.plan.config))
    for _, layer in compressed_layers(reference):
        layer.weight_in_force = ()
    optimizer = torch.optim.AdamW(reference.parameters(), lr=1e-2, weight_decay=0.0)
    bits = golden_bits(period)[:10]
    assert bits == ([8, 7, 6, 6, 5, 5, 5, 5, 4, 4] if period else [8, 7, 6, 5, 4, 3, 2, 2, 2, 2])
    assert losses == pytest.approx(old_training(reference, optimizer, bits, ratio), abs=2e-5)
    assert losses[0] != pytest.approx(losses[-1], abs=1e-2)


@pytest.mark.parametrize("stage", [0, 3])
def test_a_resumed_run_draws_and_mixes_as_if_it_had_not_stopped(stage: int, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "rounding": "stochastic",
        "fp16_mixed_quantize": {"enabled": True, "quantize_change_ratio": 0.4},
        "params": {"target_bits": 4, "quantization_period": 2},
    }
    engine = moq_engine(stage, **options)
    train(engine, 3)
    engine.save_checkpoint(str(tmp_path))
    with seen_weights(engine.module) as straight:
        losses = train(engine, 2, 3)
    again = moq_engine(stage, **options)
    again.load_checkpoint(str(tmp_path))
    with seen_weights(again.module) as resumed:
        assert train(again, 2, 3) == pytest.approx(losses, abs=1e-6)
    assert torch.equal(straight[0], resumed[0])
    assert torch.allclose(straight[1], resumed[1], atol=1e-6)


def test_checkpointed_activations_and_micro_batches_see_the_weights_of_their_step() -> None:
    model = tiny_model(layers=2)
    model.gradient_checkpointing_enable()
    engine = moq_engine(rounding="stochastic", params={"target_bits": 8}, model=model, accumulation=2)
    with seen_weights(engine.module) as seen:
        train(engine, 2)
    # Two micro-batches a step, each forward run again for the backward.
    first, second = seen[:4], seen[4:]
    assert len(second) == 4
    assert all(torch.equal(first[0], w) for w in first)
    assert all(torch.equal(second[0], w) for w in second)
    assert not torch.equal(first[0], second[0])


def test_what_is_shipped_has_the_target_bits_rounded_to_the_nearest() -> None:
    options: dict[str, Any] = {"rounding": "stochastic", "params": {"target_bits": 3, "quantization_period": 100}}
    engine = moq_engine(fp16_mixed_quantize={"enabled": True}, **options)
    train(engine, 2)
    assert engine.xtc.schedule.bits()["weights"]["all"] == 8
    frozen = xtc_ds.freeze(engine)
    latent = engine.module.get_submodule(WATCHED).weight
    x = torch.randn(2, 32)
    packed: Any = frozen.get_submodule(WATCHED)
    assert packed(x) == pytest.approx(
        torch.nn.functional.linear(x, old_quantizer(latent, 3), packed.bias).detach(), abs=2e-2
    )


def test_a_step_that_overflows_in_fp16_does_not_lower_the_bits() -> None:
    with allow_fp16():
        engine = moq_engine(2, "fp16", fp16={"initial_scale_power": 30, "hysteresis": 1})
        with seen_weights(engine.module) as seen:
            train(engine, 18)
    assert engine.skipped_steps > 8
    applied = 18 - engine.skipped_steps
    assert engine.xtc.schedule.step == applied > 0
    assert engine.xtc.schedule.bits()["weights"]["all"] == max(2, 8 - applied)
    assert all(torch.equal(seen[0], w) for w in seen[: engine.skipped_steps])
