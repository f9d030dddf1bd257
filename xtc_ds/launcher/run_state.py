"""The state that the phases of a run share."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from torch import nn

from xtc_ds.distributed import rank, world_size
from xtc_ds.launcher.batching import LengthGroupedBatchSampler
from xtc_ds.launcher.inputs import Inputs
from xtc_ds.launcher.tasks import Collator, EncodedDataset, Task

__all__ = ["RunState"]


@dataclass
class RunState:
    """The state that the phases of a run share.

    model: the model from which the teacher is fine-tuned, or the teacher itself if ``teacher`` names one;
    begun: whether the folder has been created.
    """

    arguments: argparse.Namespace
    inputs: Inputs
    task: Task
    teacher: str | None
    model: nn.Module
    tokenizer: Any
    train: EncodedDataset
    dev: dict[str, EncodedDataset]
    console: Console | None
    seconds: dict[str, float] = field(default_factory=dict)
    begun: bool = False

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Context manager that measures the time of a phase."""
        began = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 2)

    def say(self, what: Any) -> None:
        """Print on rank 0."""
        if self.console:
            self.console.print(what, highlight=False)

    def sampler(self) -> LengthGroupedBatchSampler:
        """This rank's batches of the training set."""
        return LengthGroupedBatchSampler(
            self.train.lengths,
            self.inputs.batches.micro,
            accumulation_steps=self.inputs.batches.accumulation,
            world_size=world_size(),
            rank=rank(),
            seed=self.arguments.seed,
        )

    def collator(self) -> Collator:
        """The collator that pads for this model and task."""
        return self.task.collator(self.tokenizer, self.model)
