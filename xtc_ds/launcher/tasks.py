"""The tasks the launcher knows, and one call that loads any of them.

Rows come from the original GLUE files (``glue.py``), the Hugging Face hub (``hub.py``) or the
embedded review grammar (``reviews.py``); all give the same ``TaskData``.
"""

from __future__ import annotations

import difflib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass

from xtc_ds.errors import DataError

__all__ = ["TASKS", "Split", "Task", "TaskData", "get_task", "load_task"]

# Seeds the choice of dev rows. Fixed, so that scores of runs with different seeds are of the same rows.
_EVAL_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What a task asks for.

    ``keys`` are the names of its one or two text columns (the hub's names), ``labels`` the class names in
    the order of the class indices (empty for regression), ``metrics`` every reported metric and
    ``headline`` the one of them by which models are compared.
    """

    name: str
    keys: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    headline: str = "accuracy"

    @property
    def is_regression(self) -> bool:
        """Whether the label is a score and not a class."""
        return not self.labels

    @property
    def is_pair(self) -> bool:
        """Whether an example has two texts."""
        return len(self.keys) == 2

    @property
    def num_labels(self) -> int:
        """Number of logits: one per class, or one for a score."""
        return len(self.labels) or 1


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of one split, as parallel lists; labels are class indices, or scores for regression."""

    texts_a: list[str]
    texts_b: list[str] | None
    labels: list[int] | list[float]

    def __post_init__(self) -> None:
        assert len(self.texts_a) == len(self.labels)
        assert self.texts_b is None or len(self.texts_b) == len(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: Sequence[int]) -> Split:
        """Return a new split with only ``rows``, in that order."""
        texts_b = None if self.texts_b is None else [self.texts_b[row] for row in rows]
        return Split([self.texts_a[row] for row in rows], texts_b, [self.labels[row] for row in rows])


@dataclass(frozen=True, slots=True)
class TaskData:
    """A loaded task. ``dev`` has one entry, ``dev``, except for MNLI: ``matched`` and ``mismatched``."""

    task: Task
    train: Split
    dev: dict[str, Split]


_ENTAILMENT = ("entailment", "not_entailment")
_SENTENCES = ("sentence1", "sentence2")
_ACCURACY_F1 = ("accuracy", "f1")

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(name="reviews", keys=("sentence",), labels=("negative", "positive")),
        Task(
            name="cola",
            keys=("sentence",),
            labels=("unacceptable", "acceptable"),
            metrics=("matthews_correlation",),
            headline="matthews_correlation",
        ),
        Task(name="mnli", keys=("premise", "hypothesis"), labels=("entailment", "neutral", "contradiction")),
        Task(name="mrpc", keys=_SENTENCES, labels=("not_equivalent", "equivalent"), metrics=_ACCURACY_F1),
        Task(name="qnli", keys=("question", "sentence"), labels=_ENTAILMENT),
        Task(name="qqp", keys=("question1", "question2"), labels=("not_duplicate", "duplicate"), metrics=_ACCURACY_F1),
        Task(name="rte", keys=_SENTENCES, labels=_ENTAILMENT),
        Task(name="sst2", keys=("sentence",), labels=("negative", "positive")),
        Task(name="stsb", keys=_SENTENCES, labels=(), metrics=("pearson", "spearmanr"), headline="pearson"),
        Task(name="wnli", keys=_SENTENCES, labels=("not_entailment", "entailment")),
    )
}


def get_task(name: str) -> Task:
    """Return the task called ``name`` (any case; ``SST-2`` and ``STS-B`` too). Raises ``DataError`` if unknown."""
    key = name.casefold().replace("-", "")
    if key in TASKS:
        return TASKS[key]
    near = difflib.get_close_matches(key, TASKS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise DataError(f"unknown task {name!r}; the tasks are {', '.join(TASKS)}{hint}")


def load_task(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    seed: int = 42,
) -> TaskData:
    """Load a task: ``reviews`` is generated, the others come from ``data_dir`` or else from the hub.

    ``max_train_samples`` keeps that many rows, drawn with ``seed`` and left in file order;
    ``max_eval_samples`` does so for each dev split. Which rows are dev rows never depends on ``seed``, so
    that a teacher and a student trained with different seeds neither see nor are scored on different rows.
    Raises ``DataError`` for an unknown task, missing, malformed or empty data, and limits below 1.
    """
    from xtc_ds.launcher import glue, hub, reviews

    task = get_task(name)
    for flag, limit in (("max_train_samples", max_train_samples), ("max_eval_samples", max_eval_samples)):
        if limit is not None and limit < 1:
            raise DataError(f"{flag} must be at least 1; found {limit}")
    if task.name == "reviews":
        if data_dir is not None:
            raise DataError(
                f"the embedded task 'reviews' reads no files, but data_dir is {os.fspath(data_dir)!r}; "
                "name a GLUE task with --task_name, or leave --data_dir out"
            )
        data = reviews.load(task)
    elif data_dir is not None:
        data = glue.load(task, data_dir)
    else:
        data = hub.load(task)
    train = _sample(data.train, max_train_samples, seed)
    return TaskData(task, train, {key: _sample(dev, max_eval_samples, _EVAL_SEED) for key, dev in data.dev.items()})


def _sample(split: Split, limit: int | None, seed: int) -> Split:
    if limit is None or limit >= len(split):
        return split
    return split.select(sorted(random.Random(seed).sample(range(len(split)), limit)))
