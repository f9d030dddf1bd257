"""The input of a loss: one training forward of student and teacher."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from xtc_ds.distillation.attention_record import AttentionRecord
from xtc_ds.distillation.loss import DistillationLoss, Pairs, Taps, switched_off
from xtc_ds.distillation.taps import Capture
from xtc_ds.errors import DistillationError
from xtc_ds.zero import is_partitioned

__all__ = ["CapturedPairs", "PairedForward"]

_T = TypeVar("_T")


class CapturedPairs:
    """The captured tensors of both models, iterated in pairs; each tensor is released after its last use.

    taps: the taps of all losses; each loss must request its pairs exactly once.
    """

    def __init__(self, student: Capture, teacher: Capture, taps: Iterable[Taps]) -> None:
        self._student, self._teacher = student, teacher
        self._student_uses: Counter[tuple[str, int]] = Counter()
        self._teacher_uses: Counter[tuple[str, int]] = Counter()
        for tap in taps:
            for kind, pairs in (("hidden", tap.hidden), ("attention", tap.attention)):
                self._student_uses.update((kind, ours) for ours, _ in pairs)
                self._teacher_uses.update((kind, theirs) for _, theirs in pairs)

    def hidden(self, pairs: Pairs) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over the hidden states of ``pairs``."""
        return self._pairs("hidden", pairs, self._student.hidden, self._teacher.hidden)

    def attention(self, pairs: Pairs) -> Iterator[tuple[AttentionRecord, AttentionRecord]]:
        """Iterate over the attention records of ``pairs``."""
        return self._pairs("attention", pairs, self._student.attention, self._teacher.attention)

    def _pairs(
        self, kind: str, pairs: Pairs, student: dict[int, _T], teacher: dict[int, _T]
    ) -> Iterator[tuple[_T, _T]]:
        for i, j in pairs:
            yield _use(student, i, kind, self._student_uses), _use(teacher, j, kind, self._teacher_uses)


@dataclass(frozen=True, kw_only=True)
class PairedForward:
    """The outputs and captured tensors of both models for one batch, as requested by ``loss``.

    student_outputs, teacher_outputs: the models' outputs; only outputs that a loss taps are guaranteed for the teacher.
    valid_targets_BL: mask of the output positions that are not padding; valid_BL: the same for hidden states. None: all
        positions.
    """

    student: nn.Module
    student_outputs: Mapping[str, Any]
    teacher_outputs: Mapping[str, Any]
    valid_targets_BL: Tensor | None
    valid_BL: Tensor | None
    loss: DistillationLoss
    taps: Taps
    captured: CapturedPairs
    projection: nn.Linear | None

    def outputs(self, name: str) -> tuple[Tensor, Tensor]:
        """The student's and the teacher's output ``name``. Raises DistillationError if a model did not return it."""
        return self._output(self.student_outputs, name, "student"), self._output(self.teacher_outputs, name, "teacher")

    def hidden_states(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(student's, teacher's) hidden state (B, L, D) of each tapped pair; can be iterated once."""
        pairs = self.captured.hidden(self.taps.hidden)
        projection = self.projection if self.taps.projected else None
        if projection is None:
            return pairs
        weight = projection.weight
        if is_partitioned(weight):
            # Project all states in one call, so that the partitioned weight is gathered once.
            states, theirs = zip(*pairs, strict=True)
            return zip(projection(torch.stack(states).to(weight.dtype)).unbind(0), theirs, strict=True)
        return ((projection(state.to(weight.dtype)), other) for state, other in pairs)

    def attention(self) -> Iterator[tuple[AttentionRecord, AttentionRecord]]:
        """(student's, teacher's) attention of each tapped pair of layers; can be iterated once."""
        return self.captured.attention(self.taps.attention)

    def _output(self, outputs: Mapping[str, Any], name: str, whose: str) -> Tensor:
        value = outputs.get(name)
        if not isinstance(value, Tensor):
            remedy = switched_off((self.loss.weight_key,))
            raise DistillationError(f"the {whose} returned no {name}; {remedy} to distil without them")
        return value


def _use(captured: dict[int, _T], index: int, kind: str, uses: Counter[tuple[str, int]]) -> _T:
    uses[kind, index] -= 1
    return captured[index] if uses[kind, index] else captured.pop(index)
