"""Tasks with one or two texts and one label per example: classification and regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xtc_ds.errors import DataError, TeacherError
from xtc_ds.launcher.tasks.base import Collator, Task
from xtc_ds.launcher.tasks.encoded import EncodedDataset

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Split", "TextTask", "encode", "require_padding"]

_CHUNK = 4096


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


@dataclass(frozen=True, kw_only=True)
class TextTask(Task):
    """A label for one or two texts; subclasses define in ``load`` where the rows (``Split``) come from.

    ``keys``: names of the one or two text columns. ``labels``: class names in the order of the class indices (empty for
    regression). ``metrics``: all reported metrics, including ``headline``.
    """

    name: str
    keys: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    headline: str = "accuracy"
    auto_class: str = "AutoModelForSequenceClassification"

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

    def model_config(self) -> dict[str, Any]:
        if self.is_regression:
            return {"num_labels": 1, "problem_type": "regression"}
        return {
            "num_labels": self.num_labels,
            "problem_type": "single_label_classification",
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: index for index, label in enumerate(self.labels)},
        }

    def check_teacher(self, name: str, config: Any) -> None:
        """Raise TeacherError if the classes of the fine-tuned model are not the task's, in the same order."""
        if config.num_labels != self.num_labels:
            raise TeacherError(
                f"teacher '{name}' has {config.num_labels} labels, the task {self.name} {self.num_labels}; "
                "give a teacher fine-tuned for this task"
            )
        theirs = [_letters(str(config.id2label[index])) for index in sorted(config.id2label)]
        unnamed = all(label in (f"label{index}", str(index)) for index, label in enumerate(theirs))
        if self.is_regression or unnamed or theirs == [_letters(label) for label in self.labels]:
            return
        raise TeacherError(
            f"teacher '{name}' has the labels {', '.join(map(str, config.id2label.values()))}, the task {self.name} "
            f"{', '.join(self.labels)}, in this order; give a teacher fine-tuned for this task "
            "(or correct id2label in its config.json if only the names differ)"
        )

    def encode(self, tokenizer: Any, rows: Split, max_length: int) -> EncodedDataset:
        return encode(tokenizer, rows, max_length)

    def collator(self, tokenizer: Any, model: Any = None) -> Collator:
        from transformers import DataCollatorWithPadding

        require_padding(tokenizer)
        collator: Collator = DataCollatorWithPadding(tokenizer)
        return collator

    def score(self, predictions: npt.NDArray[Any], data: EncodedDataset) -> dict[str, float]:
        from xtc_ds.launcher.tasks.metrics import compute_metrics

        return compute_metrics(self, predictions, data.labels)


def encode(tokenizer: Any, split: Split, max_seq_length: int = 128) -> EncodedDataset:
    """Tokenize a split, truncated to ``max_seq_length`` tokens (and to the tokenizer's own limit).

    Columns: ``input_ids``, ``token_type_ids`` if the tokenizer has them, and ``labels``. A pair that is too long is
    truncated in its longer text first. Raises ``DataError`` if no token of text would fit, or if a text has no tokens.
    """
    pair = split.texts_b is not None
    limit = min(max_seq_length, tokenizer.model_max_length)
    least = tokenizer.num_special_tokens_to_add(pair=pair) + 1 + pair
    if limit < least:
        raise DataError(f"max_seq_length must be at least {least} for this tokenizer; found {limit}")
    columns: dict[str, list[list[int]]] = {}
    for start in range(0, len(split), _CHUNK):
        rows = slice(start, start + _CHUNK)
        texts_b = None if split.texts_b is None else split.texts_b[rows]
        chunk = tokenizer(split.texts_a[rows], texts_b, truncation=True, max_length=limit, padding=False)
        for name in ("input_ids", "token_type_ids"):
            if name in chunk:
                columns.setdefault(name, []).extend(chunk[name])
    if not columns:
        raise DataError("no examples to tokenise")
    empty = next((row for row, ids in enumerate(columns["input_ids"]) if not ids), None)
    if empty is not None:
        raise DataError(f"example {empty} has no tokens: {split.texts_a[empty]!r}")
    return EncodedDataset({**columns, "labels": split.labels})


def require_padding(tokenizer: Any) -> None:
    """Raise ``DataError`` for a tokenizer without a padding token."""
    if tokenizer.pad_token_id is None:
        raise DataError("the tokenizer has no padding token; set tokenizer.pad_token, to its eos_token for example")


def _letters(label: str) -> str:
    return "".join(letter for letter in label.casefold() if letter.isalnum())
