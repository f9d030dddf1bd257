"""Which collectives a training step calls, with and without compression."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import deepspeed
from torch.profiler import ProfilerActivity, profile

import xtc_ds
from tests.tiny import block, ds_config, tiny_model

STAGES = (0, 1, 2, 3)
KD = {"teacher": "self", "attention_weight": 1.0, "hidden_weight": 1.0}


def collectives_run(stage: int, step: Callable[[Any, int], object]) -> dict[str, dict[str, int]]:
    """Calls of each collective in one step, by case; ``step`` trains an engine with the batch of a number."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    static = {"range_calibration": "static"}
    cases = {"plain": None, "w1a8": block(kd=KD), "static": block(kd=KD, activation_shared=static)}
    return {name: _count(_engine(stage, compression), step) for name, compression in cases.items()}


def _engine(stage: int, compression: dict[str, Any] | None) -> Any:
    config = ds_config(
        compression or {},
        zero_optimization={"stage": stage, "stage3_param_persistence_threshold": 0},
        optimizer={"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
        zero_force_ds_cpu_optimizer=False,
    )
    start: Callable[..., Any] = xtc_ds.initialize
    if compression is None:
        start = deepspeed.initialize
        del config["compression_training"]
    model = tiny_model(layers=2)
    return start(model=model, config=config, model_parameters=list(model.parameters()))[0]


def _count(engine: Any, step: Callable[[Any, int], object]) -> dict[str, int]:
    for number in range(3):  # ZeRO-3 records its order of gathering in the first steps
        step(engine, number)
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        step(engine, 3)
    engine.destroy()
    calls = Counter({event.key: event.count for event in recorded.key_averages() if event.key.startswith("c10d::")})
    return dict(calls)
