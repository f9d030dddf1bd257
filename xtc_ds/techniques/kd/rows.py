"""The rows of a distillation, one per loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xtc_ds.distillation.loss import Pairs, Taps
from xtc_ds.plan import Row

__all__ = ["HARD_LABELS", "DistillationRow"]

# The name of the student's own loss in logs.
HARD_LABELS = "hard"


@dataclass(frozen=True)
class DistillationRow(Row):
    """One loss.

    loss: its name. options: the loss's other keys. teacher: name from the config, or class name.
    stack, teacher_stack: names of the lists of layers that are compared; "" if the loss needs none, or if the teacher
        is not known yet.
    taps: what is compared; None if the pairs of layers depend on a teacher that is not known yet.
    """

    loss: str
    weight: float
    options: tuple[tuple[str, Any], ...]
    teacher: str
    stack: str
    teacher_stack: str
    taps: Taps | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; pairs are [student layer, teacher layer], None if they are not known yet."""
        taps = self.taps
        return {
            "loss": self.loss,
            "weight": self.weight,
            "options": {key: list(value) if isinstance(value, tuple) else value for key, value in self.options},
            "teacher": self.teacher,
            "stack": self.stack or None,
            "teacher_stack": self.teacher_stack or None,
            "outputs": None if taps is None else list(taps.outputs),
            "hidden_pairs": None if taps is None else _lists(taps.hidden),
            "attention_pairs": None if taps is None else _lists(taps.attention),
        }

    def add_to_report(self, report: dict[str, Any], technique: str, packed_bytes: Mapping[str, int]) -> None:
        """Added as an entry of "distillation"."""
        report.setdefault("distillation", []).append(self.to_dict())

    @property
    def table_title(self) -> str:
        """The title of the distillation table."""
        return f"Distillation from {self.teacher}"

    def table_cells(self) -> Mapping[str, str]:
        """A line for each loss."""
        options = "".join(f", {key} {value}" for key, value in self.options)
        return {
            "loss": f"{self.loss}{options}",
            "weight": f"{self.weight:g}",
            "compares (student <- teacher)": self._compared(),
        }

    def _compared(self) -> str:
        if self.loss == HARD_LABELS:
            return "the student's own loss with the labels"
        if self.taps is None:
            return f"{self.stack}; the pairs of layers depend on the teacher's depth"
        parts = [*self.taps.outputs]
        parts += [f"hidden states {_joined(self.taps.hidden)}"] if self.taps.hidden else []
        parts += [f"attention of layers {_joined(self.taps.attention)}"] if self.taps.attention else []
        return "; ".join(parts)


def _lists(pairs: Pairs) -> list[list[int]]:
    return [list(pair) for pair in pairs]


def _joined(pairs: Pairs) -> str:
    return ", ".join(f"{ours} <- {theirs}" for ours, theirs in pairs)
