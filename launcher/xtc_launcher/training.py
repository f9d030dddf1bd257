"""The training loop, the same for teacher and student."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from xtc_ds.errors import EngineError
from xtc_launcher.batching import EncodedDataset, LengthGroupedBatchSampler, PadCollator
from xtc_launcher.models import no_decay_groups
from xtc_launcher.progress import TrainingProgress

__all__ = ["TrainOptions", "Trainer", "build_optimizer", "total_steps"]


@dataclass(frozen=True)
class TrainOptions:
    """rate: peak learning rate; warmup: steps in which it rises; then it falls linearly to 0 at ``steps``."""

    title: str
    steps: int
    rate: float
    warmup: int
    weight_decay: float


def total_steps(max_steps: int | None, epochs: float, steps_per_epoch: int) -> int:
    """Optimizer steps of a run."""
    return max_steps or max(1, math.ceil(epochs * steps_per_epoch))


def build_optimizer(model: Any, options: TrainOptions, config: dict[str, Any]) -> dict[str, Any]:
    """``optimizer`` and ``lr_scheduler`` arguments for ``initialize``; what the config holds is left to DeepSpeed."""
    if config.get("optimizer"):
        return {"model_parameters": no_decay_groups(model, options.weight_decay)}
    optimizer = AdamW(no_decay_groups(model, options.weight_decay), lr=options.rate, eps=1e-8, fused=True)
    if config.get("scheduler"):
        return {"optimizer": optimizer}

    def schedule(inner: Optimizer) -> LambdaLR:
        return LambdaLR(inner, lambda step: _linear(step, options))

    return {"optimizer": optimizer, "lr_scheduler": schedule}


def _linear(step: int, options: TrainOptions) -> float:
    if step < options.warmup:
        return (step + 1) / options.warmup
    return max(0.0, (options.steps - step) / max(1, options.steps - options.warmup))


@dataclass
class Trainer:
    """Runs an engine over an epoch-wise sampler until ``options.steps`` optimizer steps are done."""

    engine: Any
    data: EncodedDataset
    sampler: LengthGroupedBatchSampler
    collate: PadCollator
    options: TrainOptions
    console: Console | None
    after_step: Callable[[int], None] = lambda step: None
    losses: list[float] = field(default_factory=list)

    def run(self, start: int = 0) -> None:
        """Train from optimizer step ``start`` to the end. Raises EngineError if the loss is no longer finite."""
        self.engine.train()
        self.sampler.start_at(start)
        step = start
        with TrainingProgress(self.console, self.options.title, self.options.steps, start) as progress:
            while step < self.options.steps:
                loader = DataLoader(self.data, batch_sampler=self.sampler, collate_fn=self.collate)
                began = time.monotonic()
                for batch in loader:
                    completes_a_step = self.engine.is_gradient_accumulation_boundary()
                    loss = self._micro_step(batch)
                    if not completes_a_step:
                        continue
                    step += 1
                    now = time.monotonic()
                    progress.update(self._figures(loss, self.sampler.global_batch_size / (now - began)))
                    self.after_step(step)
                    began = time.monotonic()
                    if step == self.options.steps:
                        return
                self.sampler.set_epoch(self.sampler.epoch + 1)

    def _micro_step(self, batch: dict[str, torch.Tensor]) -> float:
        batch = {name: tensor.to(self.engine.device) for name, tensor in batch.items()}
        loss = self.engine(**batch).loss
        value = float(loss.detach())
        if not math.isfinite(value):
            raise EngineError(
                f"the loss is {value} at step {self.engine.global_steps + 1}; "
                "lower --learning_rate, or train in float32 or bf16"
            )
        self.engine.backward(loss)
        self.engine.step()
        self.losses.append(value)
        return value

    def _figures(self, loss: float, samples_per_second: float) -> str:
        parts = [f"loss {loss:.4f}"]
        extra = getattr(self.engine, "xtc", None)
        if extra is not None:
            named = {k: v for k, v in extra.loss_parts().items() if k != "loss"}
            if named:
                parts[0] += " (" + ", ".join(f"{name} {value:.3f}" for name, value in named.items()) + ")"
            bits = extra.schedule.bits()
            for short, group in (("W", "weights"), ("A", "activations")):
                if bits[group]:
                    parts.append(short + "/".join(f"{b:g}" for b in sorted(set(bits[group].values()))))
        rates = [group["lr"] for group in self.engine.optimizer.param_groups]
        parts.append(f"lr {max(rates):.1e}")
        parts.append(f"{samples_per_second:.0f} samples/s")
        return "  ".join(parts)
