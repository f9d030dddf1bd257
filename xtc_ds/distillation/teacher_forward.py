"""Run the teacher: without gradients, in its own dtype if configured, and only as far as the losses need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xtc_ds.distillation.inputs import check_output, teacher_inputs
from xtc_ds.distillation.logits_cache import LogitsCache, example_keys
from xtc_ds.distillation.taps import Capture, StoppedEarly, Tap
from xtc_ds.errors import DistillationError
from xtc_ds.zero import is_partitioned

__all__ = ["PendingForward", "TeacherForward"]


@dataclass(frozen=True)
class PendingForward:
    """A training forward in progress: the student's inputs, and the teacher's outputs and captured tensors for them.

    Outputs and tensors that no loss uses may be missing.
    """

    inputs: dict[str, Any]
    teacher_outputs: dict[str, Any]
    teacher_capture: Capture


class TeacherForward:
    """Computes the teacher's tensors with which the losses compare the student.

    tap: captures what the losses need from the teacher's layers; it may stop the forward when that is complete.
    outputs: names of the outputs that the losses compare.
    own_type: whether the teacher runs in its own dtype, regardless of the student's autocast.
    cache: stores the logits of earlier batches; None: the teacher runs for every batch.
    """

    def __init__(
        self, teacher: nn.Module, tap: Tap, outputs: frozenset[str], own_type: bool, cache: LogitsCache | None
    ) -> None:
        self.teacher = teacher.requires_grad_(False).eval()
        self._tap, self._own_type, self._cache = tap, own_type, cache
        # If the teacher is partitioned over ranks, all of them have to run it to its last layer.
        whole = not any(is_partitioned(parameter) for parameter in teacher.parameters())
        self._tap.stop_when_complete = whole and not outputs
        self._needed = bool(outputs or tap.wanted_hidden or tap.wanted_attention)
        self._checked = False

    def run(self, inputs: dict[str, Any]) -> PendingForward:
        """Run the teacher, or read the cache, for the student's inputs."""
        return PendingForward(inputs, *self._run(inputs))

    def _run(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], Capture]:
        if not self._needed:
            return {}, Capture()
        given = teacher_inputs(self.teacher, inputs)
        if self._cache is None:
            return self._forward(given)
        keys, device = example_keys(given), next(self.teacher.parameters()).device
        known = self._cache.get(keys, self.teacher)
        if known is not None:
            return {"logits": known.to(device)}, Capture()
        output, capture = self._forward(given)
        self._cache.put(keys, _one_row_each(output.get("logits"), len(keys)))
        return output, capture

    def _forward(self, given: dict[str, Any]) -> tuple[Any, Capture]:
        if self.teacher.training:
            self.teacher.eval()
        device = next(self.teacher.parameters()).device.type
        outer = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device) and not self._own_type
        output: Any = {}
        # Not inference_mode, because autograd saves the teacher's tensors for the student's backward.
        with torch.no_grad(), torch.autocast(device, outer[0], enabled=outer[1]), self._tap:
            try:
                output = self.teacher(**given)
            except StoppedEarly:
                self._checked = True  # no loss uses the logits
        capture = self._tap.take()
        if not self._checked:
            check_output(output, "teacher")
            logits = output.get("logits")
            if logits is not None and not bool(torch.isfinite(logits).all()):
                raise DistillationError("the teacher's logits are not finite; its weights are broken or overflow")
            self._checked = True
        return output, capture


def _one_row_each(logits: Any, examples: int) -> Tensor:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != examples:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise DistillationError(
            f'"cache": "logits" keeps one row of logits for each of the {examples} examples; the teacher gave {found}; '
            'set "cache": "none"'
        )
    return logits
