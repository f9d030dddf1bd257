"""What DeepSpeed 0.19.6 puts in force in which forward, under its real engine; only imported where it is installed."""

from __future__ import annotations

from typing import Any

import deepspeed
import torch
from deepspeed.compression.compress import init_compression
from torch import nn

from tests.parity.blocks import technique

Config = dict[str, Any]


def ds_config(block: dict[str, Any], accumulation: int = 1, **extra: Any) -> Config:
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulation,
        "optimizer": {"type": "Adam", "params": {"lr": 1e-3, "torch_adam": True}},
        "compression_training": block,
        **extra,
    }


def pruning_forwards(offsets: dict[str, int], accumulation: int, steps: int) -> list[dict[str, Any]]:
    """For each micro-forward of a training with row, head and channel pruning: what was in force in it."""
    block: dict[str, Any] = {}
    for what, offset in offsets.items():
        shared: dict[str, Any] = {"method": "topk", "schedule_offset": offset}
        if what == "head":
            shared["num_heads"] = 2
        modules = ["conv"] if what == "channel" else ["fc"]
        block |= technique(f"{what}_pruning", {"dense_ratio": 0.5}, modules, **shared)
    config = ds_config(block, accumulation)
    torch.manual_seed(0)
    plain = nn.Sequential()
    plain.add_module("conv", nn.Conv2d(1, 4, 1))
    plain.add_module("flat", nn.Flatten())
    plain.add_module("fc", nn.Linear(4, 4))
    model = init_compression(plain, config)
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
    seen: dict[str, bool] = {}

    def look(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            kinds = ("channel",) if name == "conv" else ("row", "head")
            seen.update({kind: bool(getattr(module, f"{kind}_pruning_enabled")) for kind in kinds})

        return hook

    for name in ("conv", "fc"):
        getattr(engine.module, name).register_forward_hook(look(name))
    # Convolutions lack this attribute unless their weight is quantized, and their forward asks for it.
    engine.module.conv.weight_quantization_enabled = False
    forwards = []
    for _ in range(steps * accumulation):
        applied = engine.global_steps
        loss = engine(torch.ones(1, 1, 1, 1)).sum()
        forwards.append({"applied_steps": applied, **{kind: seen[kind] for kind in offsets}})
        engine.backward(loss)
        engine.step()
    return forwards


def sparse_outcome(method: str) -> str:
    """The error of a training with sparse pruning, at the step at which the pruning would begin."""
    shared: dict[str, Any] = {"method": method, "schedule_offset": 1}
    config = ds_config(technique("sparse_pruning", {"dense_ratio": 0.5}, ["^0$"], **shared))
    try:
        model = init_compression(nn.Sequential(nn.Linear(4, 4)), config)
        engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
        for _ in range(3):
            engine.backward(engine(torch.ones(1, 4)).sum())
            engine.step()
    except (KeyError, ImportError, AssertionError, NotImplementedError) as error:
        return f"{type(error).__name__} at step {engine.global_steps if 'engine' in locals() else 'init'}"
    return "none"


def rewriting_outcome(what: str, layer: nn.Module, **shared: Any) -> str:
    """The error of ``init_compression`` with row, head or channel pruning."""
    block = technique(f"{what}_pruning", {"dense_ratio": 0.5}, ["^0$"], **shared)
    try:
        init_compression(nn.Sequential(layer), {"compression_training": block})
    except (RuntimeError, NotImplementedError) as error:
        return type(error).__name__
    return "none"


def engine_facts() -> dict[str, Any]:
    """All of the above for a few settings. Needs an initialised process group."""
    offsets = [({"row": 0, "head": 0, "channel": 0}, 1), ({"row": 2, "head": 1, "channel": 3}, 1)]
    offsets.append(({"row": 1, "head": 2, "channel": 1}, 3))
    return {
        "pruning": [
            {"offsets": each, "accumulation": accumulation, "forwards": pruning_forwards(each, accumulation, 5)}
            for each, accumulation in offsets
        ],
        "sparse": {method: sparse_outcome(method) for method in ("l1", "topk", "snip_momentum")},
        "channel_l1": rewriting_outcome("channel", nn.Conv2d(2, 4, 3), method="l1"),
        "head_l1": rewriting_outcome("head", nn.Linear(8, 4), method="l1", num_heads=2),
    }
