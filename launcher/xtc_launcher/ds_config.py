"""Filling in what a DeepSpeed config leaves to the training script."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from xtc_ds.errors import ConfigError, Problem

__all__ = ["BatchPlan", "fill_config", "plan_batches"]

DEFAULT_BATCH = 32


@dataclass(frozen=True)
class BatchPlan:
    """micro: examples a rank feeds forward at once; accumulation: forwards to an optimizer step."""

    micro: int
    accumulation: int

    def examples(self, world_size: int) -> int:
        """Examples that one optimizer step consumes on all ranks."""
        return self.micro * self.accumulation * world_size


def plan_batches(config: dict[str, Any], micro_flag: int | None, world_size: int) -> BatchPlan:
    """Batch sizes from the config's three keys and the flag, as DeepSpeed relates them.

    ``train_batch_size = train_micro_batch_size_per_gpu * gradient_accumulation_steps * world_size``; keys
    that are absent or "auto" follow from the others. Raises ConfigError where they contradict each other.
    """
    total = _given(config, "train_batch_size")
    micro = micro_flag or _given(config, "train_micro_batch_size_per_gpu")
    accumulation = _given(config, "gradient_accumulation_steps")
    if micro is None:
        micro = max(1, total // ((accumulation or 1) * world_size)) if total else DEFAULT_BATCH
    if accumulation is None:
        accumulation = max(1, total // (micro * world_size)) if total else 1
    if total is not None and total != micro * accumulation * world_size:
        what = (
            f"{total} is not {micro} (per device) x {accumulation} (gradient_accumulation_steps) x "
            f"{world_size} (processes); leave one of the keys out"
        )
        raise ConfigError([Problem("train_batch_size", what)])
    return BatchPlan(micro, accumulation)


def fill_config(config: dict[str, Any], batches: BatchPlan, rate: float, steps: int, warmup: int) -> dict[str, Any]:
    """A copy with batch sizes set and every "auto" of optimizer and scheduler replaced."""
    filled = copy.deepcopy(config)
    filled.pop("train_batch_size", None)
    filled["train_micro_batch_size_per_gpu"] = batches.micro
    filled["gradient_accumulation_steps"] = batches.accumulation
    filled.setdefault("steps_per_print", 10**9)
    if filled.get("gradient_clipping") == "auto":
        filled["gradient_clipping"] = 1.0
    known = {
        "lr": rate,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": 0.01,
        "warmup_min_lr": 0,
        "warmup_max_lr": rate,
        "warmup_num_steps": warmup,
        "total_num_steps": steps,
    }
    for section in ("optimizer", "scheduler"):
        parameters = (filled.get(section) or {}).get("params", {})
        for key, value in parameters.items():
            if value == "auto":
                if key not in known:
                    raise ConfigError([Problem(f"{section}.params.{key}", '"auto" has no meaning here; give a value')])
                parameters[key] = known[key]
    for key in ("bf16", "fp16"):
        if (filled.get(key) or {}).get("enabled") == "auto":
            filled[key]["enabled"] = False
    return filled


def _given(config: dict[str, Any], key: str) -> int | None:
    value = config.get(key)
    if value is None or value == "auto":
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError([Problem(key, f'found {value!r}; allowed: a whole number from 1, or "auto"')])
    return value
