"""Fill in the values that a DeepSpeed config leaves to the training script."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xtc_ds.errors import ConfigError, Problem

__all__ = ["BatchPlan", "check_deepspeed", "check_rates", "fill_config", "plan_batches"]

DEFAULT_BATCH = 32
_MICRO = "train_micro_batch_size_per_gpu"


@dataclass(frozen=True)
class BatchPlan:
    """micro: examples that a rank feeds forward at once; accumulation: forward passes per optimizer step."""

    micro: int
    accumulation: int

    def examples(self, world_size: int) -> int:
        """Examples that one optimizer step consumes on all ranks."""
        return self.micro * self.accumulation * world_size


def plan_batches(config: dict[str, Any], micro_flag: int | None, world_size: int) -> BatchPlan:
    """The batch sizes from the config's three keys and the flag, by DeepSpeed's equation.

    ``train_batch_size = train_micro_batch_size_per_gpu * gradient_accumulation_steps * world_size``; keys
    that are absent or "auto" follow from the others, and the flag takes precedence over the config's micro
    batch. Raises ConfigError if they contradict each other.
    """
    total = _given(config, "train_batch_size")
    micro = _given(config, _MICRO)
    micro = micro_flag or micro
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


def check_rates(config: dict[str, Any], *flags: float | None) -> None:
    """Raise ConfigError if the config's optimizer sets another learning rate than a flag."""
    rate = _params(config, "optimizer").get("lr", "auto")
    for flag in flags:
        if flag is not None and rate != "auto" and rate != flag:
            what = f'found {rate!r}, but a flag says {flag!r}; write "auto", or leave the flag out'
            raise ConfigError([Problem("optimizer.params.lr", what)])


def fill_config(
    config: dict[str, Any], batches: BatchPlan, rate: float, steps: int, warmup: int, weight_decay: float
) -> dict[str, Any]:
    """A copy with batch sizes set and every "auto" replaced, in the ZeRO block by DeepSpeed's own default.

    Raises ConfigError for an "auto" that has no meaning.
    """
    filled = copy.deepcopy(config)
    filled.pop("train_batch_size", None)
    filled[_MICRO] = batches.micro
    filled["gradient_accumulation_steps"] = batches.accumulation
    filled.setdefault("steps_per_print", 10**9)
    if filled.get("gradient_clipping") == "auto":
        filled["gradient_clipping"] = 1.0
    known = {
        "lr": rate,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": weight_decay,
        "warmup_min_lr": 0,
        "warmup_max_lr": rate,
        "warmup_num_steps": warmup,
        "total_num_steps": steps,
    }
    for section in ("optimizer", "scheduler"):
        parameters = _params(filled, section)
        parameters.update({key: known[key] for key, value in parameters.items() if value == "auto" and key in known})
    for key in ("bf16", "fp16"):
        part = filled.get(key)
        if isinstance(part, dict) and part.get("enabled") == "auto":
            part["enabled"] = False
    for key in ("zero_optimization", "bf16", "fp16"):
        if isinstance(filled.get(key), dict):
            filled[key] = {name: value for name, value in filled[key].items() if value != "auto"}
    left = [Problem(path, '"auto" has no meaning here; give a value') for path in _autos(filled)]
    if left:
        raise ConfigError(left)
    return filled


def check_deepspeed(config: dict[str, Any]) -> None:
    """Let DeepSpeed parse a filled config. Raises ConfigError with all its complaints."""
    import torch
    from deepspeed.runtime import lr_schedules
    from deepspeed.runtime.config import DEEPSPEED_OPTIMIZERS, DeepSpeedConfig

    problems = []
    kind = _type(config, "optimizer")
    if kind is not None and kind.lower() not in DEEPSPEED_OPTIMIZERS and not hasattr(torch.optim, kind):
        problems.append(Problem("optimizer.type", f"no optimizer of DeepSpeed or torch is called {kind!r}"))
    kind = _type(config, "scheduler")
    if kind is not None and not hasattr(lr_schedules, kind) and not hasattr(torch.optim.lr_scheduler, kind):
        problems.append(Problem("scheduler.type", f"no scheduler of DeepSpeed or torch is called {kind!r}"))
    try:
        DeepSpeedConfig(copy.deepcopy(config))
    except Exception as error:  # pydantic errors, assertions and others: all are about the config
        details = getattr(error, "errors", None)
        if callable(details):
            problems += [Problem(".".join(map(str, part["loc"])) or "config", part["msg"]) for part in details()]
        else:
            problems.append(Problem("", f"DeepSpeed refuses the config: {error or type(error).__name__}"))
    if problems:
        raise ConfigError(problems)


def _params(config: dict[str, Any], section: str) -> dict[str, Any]:
    part = config.get(section) or {}
    if not isinstance(part, dict):
        raise ConfigError([Problem(section, f"found {part!r}; allowed: an object with type and params")])
    parameters = part.get("params") or {}
    if not isinstance(parameters, dict):
        raise ConfigError([Problem(f"{section}.params", f"found {parameters!r}; allowed: an object")])
    return parameters


def _type(config: dict[str, Any], section: str) -> str | None:
    if not config.get(section):
        return None
    kind = config[section].get("type")
    if not isinstance(kind, str):
        raise ConfigError([Problem(f"{section}.type", f"found {kind!r}; allowed: a name")])
    return kind


def _autos(value: Any, path: str = "") -> Iterator[str]:
    if value == "auto":
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _autos(inner, f"{path}.{key}" if path else str(key))


def _given(config: dict[str, Any], key: str) -> int | None:
    value = config.get(key)
    if value is None or value == "auto":
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError([Problem(key, f'found {value!r}; allowed: a whole number from 1, or "auto"')])
    return value
