"""The interface of a task: everything that the launcher needs to know about data, model and scores.

A task is one object, registered once (``register_task``). The launcher calls its methods in this order:

1. ``add_arguments``: the task's own command-line flags, if it has any;
2. ``load``: the rows of the training split and of one or more evaluation splits;
3. ``model_config`` and ``auto_class``: the model, its number of outputs and their names;
4. ``encode``: rows to tokens; ``collator``: tokens to padded batches;
5. ``predict``: the model's predictions for a batch; ``score``: metrics of all predictions.

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
    """The user's options for the data.

    data_dir: the folder given by ``--data_dir``, or None; flags: the values of the flags that the task added.
    """

    data_dir: Path | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskData:
    """A loaded task.

    task: the task, completed by values that only the data contain (label names of a user's own file, for example).
    dev: one or more evaluation splits by name. With more than one, metric names are prefixed by the split's name.
    """

    task: Task
    train: Rows
    dev: Mapping[str, Rows]


class Task(ABC):
    """What is learned, from which data, and how it is scored.

    name: as ``--task_name`` takes it; without hyphens, in lower case.
    headline: the name of the one metric by which models are compared.
    greater_is_better: whether a larger headline metric is better; False for a loss or a perplexity.
    auto_class: name of the ``transformers`` auto class that builds and loads the model.
    predicts_logits: whether ``predict`` returns the model's logits. If not, the launcher computes the logits of a few
        examples separately to compare models (after freezing, and after reloading the file).
    """

    name: str
    headline: str
    auto_class: str
    greater_is_better: bool = True
    predicts_logits: bool = True

    def add_arguments(self, group: argparse._ArgumentGroup) -> None:  # noqa: B027 - most tasks have no flags
        """Add the task's own flags to the command line; their values are returned in ``DataOptions.flags``."""

    @abstractmethod
    def load(self, options: DataOptions) -> TaskData:
        """Read all rows. Raises ``DataError`` for data that are missing, malformed or empty."""

    def model_config(self) -> dict[str, Any]:
        """The values that the task sets in the model's config: ``num_labels``, ``id2label``, ``problem_type``, ..."""
        return {}

    def check_teacher(self, name: str, config: Any) -> None:  # noqa: B027 - not every task has labels
        """Raise ``TeacherError`` if the fine-tuned model ``name`` with this config was made for another task."""

    @abstractmethod
    def encode(self, tokenizer: Any, rows: Any, max_length: int) -> EncodedDataset:
        """Tokenise a split; no example is longer than ``max_length`` tokens. Raises ``DataError``."""

    @abstractmethod
    def collator(self, tokenizer: Any, model: Any) -> Collator:
        """The function that makes a batch of encoded examples. Raises ``DataError`` if the tokenizer cannot pad."""

    def predict(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The predictions that ``score`` needs, [B, ...]; by default the logits.

        model: the engine in training, the frozen or the reloaded model; batch: from the collator, on its device. Under
        ZeRO-3 every forward is a collective, so all ranks have to run the same number of batches.
        """
        return logits_of(model, batch)

    @abstractmethod
    def score(self, predictions: npt.NDArray[Any], data: EncodedDataset) -> dict[str, float]:
        """All metrics by name, including ``headline``.

        predictions: for all examples of ``data`` in order, [N, ...]; if batches had different widths, the second axis
        is padded with -100. Raises ``DataError`` for values that cannot be scored (NaN).
        """

    def format_score(self, metric: str, value: float) -> str:
        """Format a score for display; by default in percent."""
        return f"{100 * value:.1f}"


def logits_of(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The model's outputs for a batch without its labels: ``logits``, [B, ...].

    Several logits outputs (``start_logits`` and ``end_logits``) are stacked on a new last axis; for a model without a
    head, its first output is returned.
    """
    import torch

    outputs = model(**{name: tensor for name, tensor in batch.items() if name != "labels"})
    named = [tensor for name, tensor in outputs.items() if name == "logits" or name.endswith("_logits")]
    found: torch.Tensor = torch.stack(named, dim=-1) if len(named) > 1 else named[0] if named else outputs[0]
    return found
