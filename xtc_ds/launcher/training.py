"""The training loop of teacher and student."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from xtc_ds.distributed import rank, world_size
from xtc_ds.errors import EngineError
from xtc_ds.launcher.batching import LengthGroupedBatchSampler
from xtc_ds.launcher.models import no_decay_groups
from xtc_ds.launcher.progress import TrainingProgress
from xtc_ds.launcher.tasks.base import Collator
from xtc_ds.launcher.tasks.encoded import EncodedDataset

__all__ = ["TrainOptions", "TrainingLoop", "build_optimizer", "total_steps"]

_SPEED_STEPS = 20


@dataclass(frozen=True)
class TrainOptions:
    """rate: peak learning rate, reached after ``warmup`` steps; then it falls linearly to 0 at ``steps``."""

    title: str
    steps: int
    rate: float
    warmup: int
    weight_decay: float
    seed: int = 0


def total_steps(max_steps: int | None, epochs: float, steps_per_epoch: int) -> int:
    """Optimizer steps of a run."""
    return max_steps or max(1, math.ceil(epochs * steps_per_epoch))


def build_optimizer(model: Any, options: TrainOptions, config: dict[str, Any]) -> dict[str, Any]:
    """Optimizer and scheduler as arguments for ``initialize``, unless the config defines them."""
    groups = no_decay_groups(model, options.weight_decay)
    arguments: dict[str, Any] = {"model_parameters": groups}
    if not config.get("optimizer"):
        arguments = {"optimizer": AdamW(groups, lr=options.rate, eps=1e-8, fused=True)}
    if not config.get("scheduler"):
        arguments["lr_scheduler"] = lambda inner: _schedule(inner, options)
    return arguments


def _schedule(optimizer: Optimizer, options: TrainOptions) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: _linear(step, options))


def _linear(step: int, options: TrainOptions) -> float:
    if step < options.warmup:
        return (step + 1) / options.warmup
    return max(0.0, (options.steps - step) / max(1, options.steps - options.warmup))


@dataclass
class TrainingLoop:
    """Trains an engine on the sampler's epochs for ``options.steps`` optimizer steps.

    losses: the loss of every optimizer step, averaged over its examples on all ranks.
    """

    engine: Any
    data: EncodedDataset
    sampler: LengthGroupedBatchSampler
    collate: Collator
    options: TrainOptions
    console: Console | None
    after_step: Callable[[int], None] = lambda step: None
    losses: list[float] = field(default_factory=list)

    def run(self, start: int = 0) -> None:
        """Train from optimizer step ``start`` to the end. Raises EngineError if the loss is no longer finite."""
        self.engine.train()
        self.sampler.start_at(start)
        step = start
        times: deque[float] = deque([time.monotonic()], maxlen=_SPEED_STEPS + 1)
        with TrainingProgress(self.console, self.options.title, self.options.steps, start) as progress:
            while step < self.options.steps:
                micro_losses: list[torch.Tensor] = []
                data: Any = self.data  # a map-style dataset, but not a subclass of torch's
                loader = DataLoader(data, batch_sampler=self.sampler, collate_fn=self.collate)
                for batch in loader:
                    completes_a_step = self.engine.is_gradient_accumulation_boundary()
                    rate = max(group["lr"] for group in self.engine.optimizer.param_groups)
                    self._micro_step(batch, step, micro_losses, completes_a_step)
                    if not completes_a_step:
                        continue
                    step += 1
                    micro_losses.clear()
                    times.append(time.monotonic())
                    speed = (len(times) - 1) * self.sampler.global_batch_size / max(times[-1] - times[0], 1e-9)
                    progress.update(self._figures(), f"lr {rate:.1e}  {speed:.0f} samples/s")
                    self.after_step(step)
                    if step == self.options.steps:
                        return
                self.sampler.set_epoch(self.sampler.epoch + 1)

    def _micro_step(
        self, batch: Mapping[str, torch.Tensor], step: int, micro_losses: list[torch.Tensor], completes_a_step: bool
    ) -> None:
        # Dropout masks depend only on the step, so that a resumed run draws the same ones as an uninterrupted run.
        draw = (self.options.seed * 1_000_003 + step) * 4099 + len(micro_losses)
        torch.manual_seed((draw * world_size() + rank()) % 2**63)
        loss = self.engine(**self._on_device(batch)).loss
        micro_losses.append(loss.detach().float())
        if completes_a_step:
            self._note(torch.stack(micro_losses).mean(), step)
        self.engine.backward(loss)
        self.engine.step()

    def _on_device(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The batch on the model's device; floats (labels of a regression) in the model's dtype."""
        dtype = next(self.engine.module.parameters()).dtype
        return {
            name: tensor.to(self.engine.device, dtype if tensor.is_floating_point() else tensor.dtype)
            for name, tensor in batch.items()
        }

    def _note(self, loss: torch.Tensor, step: int) -> None:
        # The mean over all ranks, so that all of them stop if one has to.
        if world_size() > 1:
            dist.all_reduce(loss)
            loss /= world_size()
        value = float(loss)
        if not math.isfinite(value):
            raise EngineError(
                f"the loss is {value} at step {step + 1}; lower --learning_rate or --teacher_learning_rate, "
                "or train in float32 or bf16"
            )
        self.losses.append(value)

    def _figures(self) -> str:
        text = f"loss {self.losses[-1]:.4f}"
        extra = getattr(self.engine, "xtc", None)
        if extra is None:
            return text
        kd = extra.plan.config.kd
        hidden = {"loss"} if kd is None or kd.hard_label_weight else {"loss", "hard"}
        named = {name: value for name, value in extra.loss_parts().items() if name not in hidden}
        if named:
            text += " (" + ", ".join(f"{name} {value:.3f}" for name, value in named.items()) + ")"
        bits = extra.schedule.bits()
        for short, group in (("W", "weights"), ("A", "activations")):
            if bits[group]:
                text += f" {short}" + "/".join(f"{b:g}" for b in sorted(set(bits[group].values())))
        return text
