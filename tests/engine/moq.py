"""MoQ runs: what the forward multiplied with at each step, and the old library's way of computing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

import xtc_ds
from tests.half_precision import allow_fp16
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.layers import CompressedLinear

# One bit less after each step: 8, 7, 6, 5, 4, 3, 2, 2 ...
FALLING = {"start_bits": 8, "target_bits": 2, "quantization_period": 0}
PRECISIONS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"bf16": {"enabled": True}},
    "fp16": {"fp16": {"enabled": True, "initial_scale_power": 8}},
}
WATCHED = "bert.encoder.layer.1.intermediate.dense"


def moq_engine(
    stage: int = 0,
    precision: str = "fp32",
    params: dict[str, Any] | None = None,
    model: Any = None,
    fp16: dict[str, Any] | None = None,
    accumulation: int = 1,
    **shared: Any,
) -> Any:
    """An engine whose block leaves ``quantize_weight_in_forward`` false."""
    compression = block(
        activation=None,
        shared={"quantize_weight_in_forward": False, **shared},
        params={**FALLING, **(params or {})},
    )
    config = ds_config(
        compression,
        zero_optimization={"stage": stage},
        optimizer={"type": "AdamW", "params": {"lr": 1e-2, "weight_decay": 0.0, "torch_adam": True}},
        gradient_clipping=0.0,
        gradient_accumulation_steps=accumulation,
        zero_force_ds_cpu_optimizer=False,
        **{kind: {**settings, **(fp16 or {})} for kind, settings in PRECISIONS[precision].items()},
    )
    model = tiny_model(layers=2) if model is None else model
    return xtc_ds.initialize(model=model, config=config, model_parameters=list(model.parameters()))[0]


@contextmanager
def seen_weights(model: nn.Module, name: str = WATCHED) -> Iterator[list[Tensor]]:
    """The weights that the named layer multiplies with, forward by forward."""
    seen: list[Tensor] = []
    original, watched = F.linear, {"on": False}

    def spy(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if watched["on"]:
            seen.append(weight.detach().clone())
        return original(input, weight, bias)

    layer = model.get_submodule(name)
    assert isinstance(layer, CompressedLinear)
    hooks = [
        layer.register_forward_pre_hook(lambda *_: watched.update(on=True)),
        layer.register_forward_hook(lambda *_: watched.update(on=False)),
    ]
    F.linear = spy
    try:
        yield seen
    finally:
        F.linear = original
        for hook in hooks:
            hook.remove()


def train(engine: Any, steps: int, first: int = 0, rows: slice = slice(None)) -> list[float]:
    """Losses of ``steps`` optimizer steps on the first batches of an endless row."""
    engine.train()
    losses = []
    for step in range(first, first + steps):
        for _ in range(engine.gradient_accumulation_steps()):
            loss = engine(**{name: tensor[rows] for name, tensor in batch(8, seed=step).items()}).loss
            engine.backward(loss)
            engine.step()
        losses.append(float(loss.detach()))
    return losses


def old_quantizer(w: Tensor, bits: int, groups: int = 1) -> Tensor:
    """What the old library wrote over a weight after an optimizer step, from its formulas, in float32."""
    w_GN = w.detach().float().reshape(groups, -1)
    if bits == 2:
        threshold_G1 = 0.7 * w_GN.abs().sum(1, keepdim=True) / w_GN.shape[1]
        large = w_GN.abs() > threshold_G1
        alpha_G1 = (w_GN.abs() * large).sum(1, keepdim=True) / large.sum(1, keepdim=True)
        return (alpha_G1 * w_GN.sign() * large).reshape(w.shape)
    scale_G1 = 2 * w_GN.abs().amax(1, keepdim=True) / 2**bits
    limit = 2 ** (bits - 1)
    return ((w_GN / scale_G1).round().clamp(-limit, limit - 1) * scale_G1).reshape(w.shape)


def two_rank_run(stage: int, precision: str, rank: int) -> dict[str, Any]:
    """Losses, and of the watched layer's weights in each forward the levels and a few values."""
    with allow_fp16():
        engine = moq_engine(stage, precision, {"start_bits": 5}, rounding="stochastic")
        with seen_weights(engine.module) as seen:
            losses = train(engine, 5, rows=slice(4 * rank, 4 * rank + 4))
    engine.destroy()
    return {
        "losses": losses,
        "levels": [len(w.unique()) for w in seen],
        "weights": [w.float().flatten()[:300].tolist() for w in seen],
    }
