"""When DeepSpeed 0.19.6 starts a technique and how its bits fall; only imported where it is installed."""

from __future__ import annotations

import os
from typing import Any

import deepspeed
import torch
from deepspeed.compression.basic_layer import QuantAct
from deepspeed.runtime.quantize import Quantizer
from torch import nn


def range_facts() -> dict[str, Any]:
    """The running range of static activations, batch by batch."""
    observer = QuantAct().train()
    batches = [[-1.0, 2.0, 0.5], [-3.0, 1.0, 0.0], [0.25, 0.5, 4.0]]
    ranges = []
    for batch in batches:
        observer(torch.tensor(batch), 8)
        ranges.append(observer.x_min_max.tolist())
    return {"batches": batches, "ranges": ranges}


def falling_bits(start: int, target: int, period: int, steps: int) -> list[int]:
    """Bits in force after 0, 1, ... calls of the runtime quantizer, which the engine calls once per applied step."""
    quantizer = Quantizer(q_groups=1, q_type="symmetric", q_rounding="nearest")
    weight: Any = nn.Parameter(torch.linspace(-1, 1, 16).reshape(4, 4).half())
    weight.start_bits, weight.target_bits, weight.q_period = start, target, period
    bits = [weight.start_bits]
    for _ in range(steps):
        quantizer.quantize([[weight]], overflow=False, eigenvalue_enabled=False, block_eigenvalue=None)
        bits.append(weight.start_bits)
    return bits


def enabled_forwards(weight_offset: int, activation_offset: int, accumulation: int, steps: int) -> list[dict[str, Any]]:
    """Train a real engine; for each micro-forward, what was in force in it."""

    def technique(offset: int, params: dict[str, Any], **shared: Any) -> dict[str, Any]:
        groups = {"all": {"params": params, "modules": ["0"]}}
        return {
            "shared_parameters": {"enabled": True, "schedule_offset": offset, **shared},
            "different_groups": groups,
        }

    config = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulation,
        "optimizer": {"type": "Adam", "params": {"lr": 1e-3, "torch_adam": True}},
        "compression_training": {
            "weight_quantization": technique(
                weight_offset,
                {"start_bits": 1, "target_bits": 1, "quantization_period": 0},
                quantize_weight_in_forward=True,
            ),
            "activation_quantization": technique(activation_offset, {"bits": 8}, range_calibration="dynamic"),
        },
    }
    torch.manual_seed(0)
    model = deepspeed.compression.compress.init_compression(nn.Sequential(nn.Linear(4, 4)), config)
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
    layer = engine.module[0]
    seen: dict[str, Any] = {}

    def look(module: nn.Module, args: Any, output: Any) -> None:
        seen["weight"] = bool(module.weight_quantization_enabled)
        seen["activation"] = bool(module.activation_quantization_enabled)

    layer.register_forward_hook(look)
    forwards = []
    for _ in range(steps * accumulation):
        applied = engine.global_steps
        loss = engine(torch.ones(1, 4)).sum()
        forwards.append({"applied_steps": applied, **seen})
        engine.backward(loss)
        engine.step()
    return forwards


def schedule_facts() -> dict[str, Any]:
    for key, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29641", "RANK": "0", "WORLD_SIZE": "1"}.items():
        os.environ.setdefault(key, value)
    os.environ.setdefault("LOCAL_RANK", "0")
    # The extension for collectives takes a minute to compile, and one rank has none.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo")
    cases = [(8, 2, 0, 12), (8, 2, 1, 70), (8, 1, 1, 140), (8, 2, 3, 120), (8, 4, 5, 100), (12, 8, 10, 100)]
    cases += [(3, 1, 7, 40), (8, 8, 1, 5), (1, 1, 0, 5), (2, 1, 0, 5), (16, 8, 1, 300), (8, 1, 0, 12)]
    return {
        "bits": [
            {"start": start, "target": target, "period": period, "bits": falling_bits(start, target, period, steps)}
            for start, target, period, steps in cases
        ],
        "enabled": [
            {
                "weight_offset": weights,
                "activation_offset": activations,
                "gradient_accumulation_steps": accumulation,
                "forwards": enabled_forwards(weights, activations, accumulation, 5),
            }
            for weights, activations, accumulation in ((0, 0, 1), (3, 1, 1), (1, 2, 4), (2, 0, 2), (9, 9, 1))
        ],
        "static_range": range_facts(),
    }
