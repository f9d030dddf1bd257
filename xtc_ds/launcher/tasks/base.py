"""The contract of a task: everything that the launcher asks about data, model and scores.

A task is one object, registered once (``register_task``). The launcher calls its methods in this order:

1. ``add_arguments``: the task's own command-line flags, if it has any;
2. ``load``: the rows of the training split and of one or more evaluation splits;
3. ``model_config`` and ``auto_class``: which model, with how many outputs, and what they are called;
4. ``encode``: rows to tokens; ``collator``: tokens to padded batches;
5. ``predict``: what the model says about a batch; ``score``: metrics of all predictions.

This module imports neither torch nor transformers, so that a mistyped task name is reported at once.
"""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    from xtc_ds.launcher.tasks.encoded import EncodedDataset

__all__ = ["Collator", "DataOptions", "Rows", "Task", "TaskData", "logits_of"]

Collator = Callable[[list[dict[str, Any]]], "Mapping[str, torch.Tensor]"]
"""Turns examples into one batch of tensors; any data collator of transformers is one."""


class Rows(Protocol):
    """The rows of one split before tokenization; a ``datasets.Dataset`` is one."""

    def __len__(self) -> int: ...

    def select(self, rows: Sequence[int], /) -> Any:
        """A split with only these rows, in this order."""


@dataclass(frozen=True, slots=True)
class DataOptions:
    """What the user said about the data.

    data_dir: the folder of ``--data_dir``, or None; flags: the values of the flags that the task itself added.
    """

    data_dir: Path | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskData:
    """A loaded task.

    task: the task, completed by what only the data can tell (label names of a user's own file, for example).
    dev: one or more evaluation splits by name. With more than one, metric names are prefixed by the split's name.
    """

    task: Task
    train: Rows
    dev: Mapping[str, Rows]


class Task(ABC):
    """What to learn, from which data, and how to score it.

    name: as ``--task_name`` takes it; without hyphens, in lower case.
    headline: the name of the one metric by which models are compared (and checkpoints will be chosen).
    greater_is_better: whether a larger headline metric is better; False for a loss or a perplexity.
    auto_class: name of the ``transformers`` auto class that builds and loads the model.
    predicts_logits: whether ``predict`` returns the model's logits. If not, the launcher runs the model once more on
        a few examples where it compares models by their logits (after freezing, and after reloading the file).
    """

    name: str
    headline: str
    auto_class: str
    greater_is_better: bool = True
    predicts_logits: bool = True

    def add_arguments(self, group: argparse._ArgumentGroup) -> None:  # noqa: B027 - most tasks have no flags
        """Add the task's own flags to the command line; their values come back as ``DataOptions.flags``."""

    @abstractmethod
    def load(self, options: DataOptions) -> TaskData:
        """Read all rows. Raises ``DataError`` for data that are missing, malformed or empty."""

    def model_config(self) -> dict[str, Any]:
        """What the task fixes in the model's config: ``num_labels``, ``id2label``, ``problem_type``, ..."""
        return {}

    def check_teacher(self, name: str, config: Any) -> None:  # noqa: B027 - not every task has labels
        """Raise ``TeacherError`` if the fine-tuned model ``name`` with this config was made for another task."""

    @abstractmethod
    def encode(self, tokenizer: Any, rows: Any, max_length: int) -> EncodedDataset:
        """Tokenise a split; no example is longer than ``max_length`` tokens. Raises ``DataError``."""

    @abstractmethod
    def collator(self, tokenizer: Any, model: Any) -> Collator:
        """What turns encoded examples into a batch. Raises ``DataError`` if the tokenizer cannot pad."""

    def predict(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """What ``score`` needs of each example, [B, ...]; by default the logits.

        model: the engine in training, the frozen or the reloaded model; batch: from the collator, on its device. Under
        ZeRO-3 every forward is a collective, so all ranks have to run equally many.
        """
        return logits_of(model, batch)

    @abstractmethod
    def score(self, predictions: npt.NDArray[Any], data: EncodedDataset) -> dict[str, float]:
        """Every metric by name, ``headline`` among them.

        predictions: of all examples of ``data`` in order, [N, ...]; where batches had different widths, the second
        axis is padded with -100. Raises ``DataError`` for values that cannot be scored (NaN).
        """

    def format_score(self, metric: str, value: float) -> str:
        """How a score is shown; by default in percent."""
        return f"{100 * value:.1f}"


def logits_of(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What a model gives for a batch, whose labels it does not see: ``logits``, [B, ...].

    Several outputs of that kind (``start_logits`` and ``end_logits``) are stacked on a new last axis; a model without a
    head gives its first output.
    """
    import torch

    outputs = model(**{name: tensor for name, tensor in batch.items() if name != "labels"})
    named = [tensor for name, tensor in outputs.items() if name == "logits" or name.endswith("_logits")]
    found: torch.Tensor = torch.stack(named, dim=-1) if len(named) > 1 else named[0] if named else outputs[0]
    return found
