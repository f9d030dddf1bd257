"""Build one tap per model that captures the tensors for all losses together."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from xtc_ds.distillation.loss import DistillationLoss, Taps
from xtc_ds.distillation.taps import Tap

__all__ = ["attention_keys", "student_tap", "teacher_tap"]

TapsByLoss = Mapping[DistillationLoss, Taps]


def student_tap(stack: nn.ModuleList, wanted: TapsByLoss) -> Tap:
    """The tap that captures what the losses need from the student's layers."""
    return _tap(stack, wanted, 0)


def teacher_tap(stack: nn.ModuleList, wanted: TapsByLoss) -> Tap:
    """The tap that captures what the losses need from the teacher's layers."""
    return _tap(stack, wanted, 1)


def attention_keys(wanted: TapsByLoss) -> tuple[str, ...]:
    """The weight keys of the losses that use attention."""
    return tuple(loss.weight_key for loss, taps in wanted.items() if taps.attention)


def _tap(stack: nn.ModuleList, wanted: TapsByLoss, side: int) -> Tap:
    return Tap(
        stack,
        hidden={pair[side] for taps in wanted.values() for pair in taps.hidden},
        attention={pair[side] for taps in wanted.values() for pair in taps.attention},
        values=any(taps.values for taps in wanted.values()),
        hidden_keys=tuple(loss.weight_key for loss, taps in wanted.items() if taps.hidden),
        attention_keys=attention_keys(wanted),
    )
