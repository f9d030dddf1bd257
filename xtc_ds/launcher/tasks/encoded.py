"""Tokenised examples in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["EncodedDataset"]


class EncodedDataset:
    """Tokenised examples, column by column: a map-style dataset for torch's ``DataLoader``.

    columns: ``input_ids`` and all other inputs of the collator (``token_type_ids``, ``labels``, ...), all with the same
    number of rows.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]]) -> None:
        assert len({len(column) for column in columns.values()}) == 1
        self.columns = columns

    @property
    def labels(self) -> Sequence[Any]:
        """The label of every example: a class, a score, or token ids."""
        return self.columns["labels"]

    @property
    def lengths(self) -> list[int]:
        """Number of input tokens of every example; batches hold examples of similar length."""
        return [len(ids) for ids in self.columns["input_ids"]]

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {name: column[row] for name, column in self.columns.items()}
