"""Running an example config: what must be changed for it here, and two applied steps of training."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch

import xtc_ds
from tests.examples.example_models import MODELS, loss_of
from xtc_ds.config.source import read_config

CONFIGS = Path(__file__).with_name("configs")
# A first guess of the loss scale may be far too high: so many steps may be skipped for it.
PATIENCE = 24


def architecture_of(name: str) -> str:
    return name.split("_")[0]


def example(name: str) -> dict[str, Any]:
    return read_config(CONFIGS / f"{name}.json")


def adapted(config: dict[str, Any], stage: int, ranks: int = 1) -> dict[str, Any]:
    """The config for this machine. This is all that is changed of it, and the block never is."""
    config = copy.deepcopy(config)
    config["zero_optimization"]["stage"] = stage
    # Parameters are gathered for each use, however small; looking ahead for the next use takes most of the time.
    if stage == 3:
        config["zero_optimization"].update(stage3_max_reuse_distance=0, stage3_param_persistence_threshold=0)
    # The examples are for one device: more of them share the batch.
    if config["train_micro_batch_size_per_gpu"] * ranks > config["train_batch_size"]:
        config["train_micro_batch_size_per_gpu"] = config["train_batch_size"] // ranks
    # DeepSpeed casts parameters only, and torch has no batch normalization on the CPU with mixed types.
    if config["fp16"]["enabled"]:
        config["data_types"] = {"buffer_dtype": "fp16"}
    # DeepSpeed refuses ZeRO-2 and 3 beside it.
    config["prescale_gradients"] = config["prescale_gradients"] and stage < 2
    # DeepSpeed compiles its own Adam at first use.
    if "optimizer" in config:
        config["optimizer"]["params"]["torch_adam"] = True
    return config


def soon(config: dict[str, Any]) -> dict[str, Any]:
    """The config with its pruning starting at the first step, so that two steps train what is pruned."""
    config = copy.deepcopy(config)
    for technique, block in config["compression_training"].items():
        shared = block.get("shared_parameters", {})
        if technique.endswith("_pruning") and shared.get("enabled"):
            shared["schedule_offset"] = 0
            if "schedule_offset_end" in shared:
                shared.update(schedule_offset_end=1, schedule_offset_stride=1)
    return config


def start(name: str, config: dict[str, Any]) -> Any:
    model = MODELS[architecture_of(name)]()
    optimizer = None if "optimizer" in config else torch.optim.AdamW(model.parameters(), lr=1e-3)
    parameters = list(model.parameters()) if optimizer is None else None
    engine, *_ = xtc_ds.initialize(model=model, optimizer=optimizer, model_parameters=parameters, config=config)
    return engine


def train(name: str, engine: Any, rows: int, steps: int = 2) -> list[float]:
    """Losses of as many micro-batches as it takes for ``steps`` steps to be applied."""
    engine.train()
    losses: list[float] = []
    goal = engine.xtc.schedule.step + steps
    while engine.xtc.schedule.step < goal:
        assert len(losses) < PATIENCE, f"only {engine.xtc.schedule.step} steps applied: {losses}"
        loss = loss_of(architecture_of(name), engine, rows, seed=len(losses))
        engine.backward(loss)
        engine.step()
        losses.append(float(loss.detach()))
    assert all(math.isfinite(loss) for loss in losses), losses
    return losses
