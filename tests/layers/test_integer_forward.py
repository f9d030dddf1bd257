"""Compressed layers on integer codes: the same training as on floats, weights encoded once while they stand still."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from tiny import batch, block, ds_config, tiny_model

import xtc_ds
from xtc_ds.layers import CompressedLayer, CompressedLinear, compressed_layers
from xtc_ds.layers.integer_forward import IntegerForward


def compressed(integer_forward: bool, **extra: Any) -> Any:
    model = tiny_model(extra.pop("kind", "bert"))
    compression = {**block(**extra), "runtime": {"integer_forward": integer_forward}}
    xtc_ds.compress(model, {"compression_training": compression})
    return model


def losses(model: Any, steps: int, dtype: torch.dtype = torch.float32) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    result = []
    for step in range(steps):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = model(**batch(seed=step % 4)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        result.append(float(loss.detach()))
    return result


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_fifty_steps_give_the_curve_of_fake_quantization(bits: int, kind: str) -> None:
    fast, slow = compressed(True, bits=bits, kind=kind), compressed(False, bits=bits, kind=kind)
    assert any(layer.on_codes for _, layer in compressed_layers(fast))
    assert not any(layer.on_codes for _, layer in compressed_layers(slow))
    first, second = losses(fast, 50), losses(slow, 50)
    # Codes at a rounding edge may fall on either side after many steps of float noise.
    assert first[:5] == pytest.approx(second[:5], rel=1e-4)
    assert first == pytest.approx(second, rel=0.1)
    assert first[-1] < first[0]


def test_static_ranges_and_tied_inputs() -> None:
    shared = {"range_calibration": "static"}
    fast, slow = compressed(True, activation_shared=shared), compressed(False, activation_shared=shared)
    assert losses(fast, 6) == pytest.approx(losses(slow, 6), rel=1e-4)
    ranges = [dict(m.named_buffers()) for m in (fast, slow)]
    for name, value in ranges[0].items():
        assert torch.allclose(value.float(), ranges[1][name].float(), rtol=1e-4), name


def test_formats_that_no_integer_product_fits_keep_the_float_one() -> None:
    cases: list[dict[str, Any]] = [
        {"shared": {"quantize_groups": 4, "granularity": "tensor"}},
        {"activation": None},
        {"bits": 4, "shared": {"quantization_type": "asymmetric"}},
        {"activation_shared": {"quantization_type": "asymmetric"}},
        {"bits": 4, "shared": {"rounding": "stochastic"}},
        {"bits": 4, "shared": {"fp16_mixed_quantize": {"enabled": True, "quantize_change_ratio": 0.5}}},
        {"activation_shared": {"schedule_offset": 3}},
    ]
    for case in cases:
        model = compressed(True, **case)
        assert not any(layer.on_codes for _, layer in compressed_layers(model)), case


def test_what_is_saved_for_the_backward_is_smaller_than_of_the_plain_model() -> None:
    def saved_bytes(model: Any) -> int:
        seen: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            seen[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(**batch(rows=8, tokens=32)).loss.backward()
        return sum(seen.values())

    plain = saved_bytes(tiny_model())
    assert saved_bytes(compressed(True)) < 0.8 * plain
    assert saved_bytes(compressed(False)) > plain


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    encode = IntegerForward._encode

    def count(self: IntegerForward, w_OI: torch.Tensor) -> Any:
        calls.append(1)
        return encode(self, w_OI)

    monkeypatch.setattr(IntegerForward, "_encode", count)
    return calls


@pytest.mark.usefixtures("single_process_group")
@pytest.mark.parametrize("stage", [0, 2])
def test_an_engine_encodes_each_weight_once_per_optimizer_step(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    config = ds_config(
        block(), gradient_accumulation_steps=3, zero_optimization={"stage": stage},
        optimizer={"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
    )  # fmt: skip
    engine, *_ = xtc_ds.initialize(model=model, model_parameters=model.parameters(), config=config)
    on_codes = sum(layer.on_codes for _, layer in compressed_layers(engine.module))
    assert on_codes
    calls = counted(monkeypatch)
    for _ in range(2):
        before = len(calls)
        for micro in range(3):
            engine.backward(engine(**batch(seed=micro)).loss)
            engine.step()
        assert len(calls) - before == on_codes
    engine.eval()
    with torch.no_grad():
        first = engine(**batch()).logits
        assert torch.equal(engine(**batch()).logits, first)
        assert len(calls) == 3 * on_codes
        # Averaged weights put in place for an evaluation must not meet the codes of the others.
        for parameter in engine.module.parameters():
            parameter.data.copy_(torch.randn_like(parameter))
        assert not torch.equal(engine(**batch()).logits, first)
    assert len(calls) == 4 * on_codes
    engine.destroy()


def test_without_an_engine_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model = compressed(True).eval()
    calls = counted(monkeypatch)
    with torch.no_grad():
        model(**batch())
        before = len(calls)
        model(**batch())
    assert len(calls) == 2 * before


def test_kept_codes_are_no_part_of_copies_and_pickles() -> None:
    model = compressed(True)
    for _, layer in compressed_layers(model):
        layer.weight_epoch = 1
    with torch.no_grad():
        expected = model.eval()(**batch()).logits
        assert any(layer._kept_codes is not None for _, layer in compressed_layers(model))
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert all(layer._kept_codes is None for _, layer in compressed_layers(twin))
            assert torch.equal(twin(**batch()).logits, expected)


def test_no_rows_and_one_row() -> None:
    layer = compressed(True).bert.encoder.layer[0].intermediate.dense
    assert isinstance(layer, CompressedLinear)
    assert isinstance(layer, CompressedLayer)
    assert layer(torch.randn(0, 32)).shape == (0, 64)
    x = torch.randn(1, 32)
    alone, among = layer(x), layer(torch.cat([x, torch.randn(20, 32)]))
    assert torch.equal(alone, among[:1])


def test_compiled_layers_agree() -> None:
    layer = compressed(True).bert.encoder.layer[0].intermediate.dense
    x = torch.randn(20, 32)
    compiled: Any = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(x), layer(x), atol=1e-5)
