"""Distillation as a property of the student's forward: in training, its loss includes the teacher's lessons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from xtc_ds.distillation.attention import disable_attention_tap, enable_attention_tap
from xtc_ds.distillation.check import check_distillation, config_value
from xtc_ds.distillation.decoding import counted_positions, with_decoder_inputs
from xtc_ds.distillation.hooks import AfterForward, BeforeForward
from xtc_ds.distillation.inputs import check_output, named_inputs, with_loss
from xtc_ds.distillation.losses import hidden_loss, logits_loss, task_of
from xtc_ds.distillation.projection import attach_projection
from xtc_ds.distillation.taps import Capture, Tap
from xtc_ds.distillation.teaching import Teaching
from xtc_ds.distillation.transfer import attention_loss
from xtc_ds.errors import DistillationError
from xtc_ds.techniques.kd.config import Distillation
from xtc_ds.zero import is_partitioned

__all__ = ["Distiller"]

_T = TypeVar("_T")


class Distiller:
    """Makes ``student(**batch)`` in training mode return an output whose loss is the distillation loss.

    student, teacher: models that return a Hugging Face output or a dict. The teacher is frozen and set to
        evaluation; it must be on the student's device and never is one of its modules.
    config: weights and kinds of the parts. student_stack, teacher_stack: their layers, in order.
    kept_layers: the teacher's layers that the layer reduction kept, if there was one.

    The loss is ``hard_label_weight * student_loss + logits_weight * logits + hidden_weight * sum(hidden)
    + attention_weight * sum(attention)`` (XTC, Wu et al., 2022: all weights 1, no hard labels); a part of
    weight 0 is not computed. In evaluation mode, or without gradients, the student is untouched.

    Call ``attach`` before an engine or optimizer is built. Copies of the student, and what is saved of it,
    know nothing of the teacher and return their own loss.
    Raises ConfigError or DistillationError when the models do not fit.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        config: Distillation,
        student_stack: nn.ModuleList,
        teacher_stack: nn.ModuleList,
        kept_layers: tuple[int, ...] | None = None,
    ) -> None:
        depths = len(student_stack), len(teacher_stack)
        self.layer_map = check_distillation(student, teacher, config, *depths, kept_layers)
        self.student, self.teacher, self.config = student, teacher, config
        # Detached, unweighted parts of the last training forward, and "loss", their weighted sum.
        self.last_parts: dict[str, Tensor] = {}
        states = self.layer_map.hidden if config.hidden_weight > 0 else ()
        layers = self.layer_map.attention if config.attention_weight > 0 else ()
        values = config.attention_type == "relations"
        self._student_tap = Tap(student_stack, range(len(states)), range(len(layers)), values=values)
        self._teaching = Teaching(teacher, config, teacher_stack, set(states), set(layers))
        self._projection: nn.Linear | None = None
        self._handles: list[RemovableHandle] = []
        # Of the forward under way: the student's inputs, the teacher's output and its layers' tensors.
        self._lesson: tuple[dict[str, Any], dict[str, Any], Capture] | None = None

    def attach(self) -> None:
        """Hook into the student, add the projection if widths differ, make attention observable.

        Raises DistillationError when attention is asked for and cannot be observed.
        """
        if self._handles:
            return
        if self.config.attention_weight > 0:
            try:
                enable_attention_tap(self.student)
                enable_attention_tap(self.teacher)
            except DistillationError:
                disable_attention_tap(self.student)
                raise
        widths = [config_value(model, "hidden_size") for model in (self.student, self.teacher)]
        if self.config.hidden_weight > 0 and None not in widths and widths[0] != widths[1] and not self._projection:
            self._projection = attach_projection(self.student, *widths)
        before, after = BeforeForward(self), AfterForward(self)
        self._handles = [
            self.student.register_forward_pre_hook(before, with_kwargs=True),
            self.student.register_forward_hook(after, with_kwargs=True, always_call=True),
        ]

    def detach(self) -> None:
        """Undo ``attach``, except for the projection (see ``strip_projection``)."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._student_tap.close()
        disable_attention_tap(self.student)
        disable_attention_tap(self.teacher)

    def projection_parameters(self) -> list[nn.Parameter]:
        """The parameters that are trained with the student but are not part of it; empty for equal widths."""
        return list(self._projection.parameters()) if self._projection is not None else []

    def before_forward(self, student: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Let the teacher speak and start capturing; called by the student's forward pre-hook."""
        self._student_tap.close()
        self._lesson = None
        if student.training and torch.is_grad_enabled():
            inputs = with_decoder_inputs(self.student, named_inputs(self.student, args, kwargs))
            # Now, not after the student: then all that the student's backward needs would be alive beside it.
            self._lesson = (inputs, *self._teaching.run(inputs))
            self._student_tap.__enter__()

    def after_forward(self, output: Any) -> Any:
        """The output with the distillation loss; called by the student's forward hook, with None on failure."""
        lesson, self._lesson = self._lesson, None
        if lesson is None or output is None:
            self._student_tap.close()
            return None
        captured = self._student_tap.take()
        check_output(output, "student")
        inputs, taught, lessons = lesson
        device = next(self.student.parameters()).device.type
        # Under autocast the products of the losses would be rounded to 16 bits.
        with torch.autocast(device, enabled=False):
            valid = counted_positions(self.student, self._student_tap.stack, inputs)
            parts = self._parts(output, taught, captured, lessons, *valid)
            total, parts = self._total(parts, output.get("loss"))
        self.last_parts = {"loss": total.detach(), **{name: part.detach() for name, part in parts.items()}}
        return with_loss(output, total)

    def _parts(
        self,
        output: Any,
        taught: dict[str, Any],
        captured: Capture,
        lessons: Capture,
        targets_BL: Tensor | None,
        valid_BL: Tensor | None,
    ) -> dict[str, Tensor]:
        parts = {}
        if self.config.logits_weight > 0:
            student, teacher = _logits(output, "student"), _logits(taught, "teacher")
            task = task_of(config_value(self.student, "problem_type"), student.shape[-1])
            valid = targets_BL if student.ndim == 3 else None
            parts["logits"] = logits_loss(student, teacher, task, self.config.temperature, valid)
        if self.config.hidden_weight > 0:
            parts["hidden"] = self._hidden(captured.hidden, lessons.hidden, valid_BL)
        if self.config.attention_weight > 0:
            pairs = _paired(captured.attention, lessons.attention, self.layer_map.attention)
            parts["attention"] = attention_loss(pairs, self.config.attention_type, valid_BL)
        return parts

    def _hidden(self, student: dict[int, Tensor], teacher: dict[int, Tensor], valid_BL: Tensor | None) -> Tensor:
        pairs = _paired(student, teacher, self.layer_map.hidden)
        if self._projection is not None:
            weight = self._projection.weight
            if is_partitioned(weight):
                # One call for all states, so that the weight is fetched once.
                states, theirs = zip(*pairs, strict=True)
                pairs = zip(self._projection(torch.stack(states).to(weight.dtype)).unbind(0), theirs, strict=True)
            else:
                pairs = ((self._projection(state.to(weight.dtype)), theirs) for state, theirs in pairs)
        return torch.stack([hidden_loss(state, theirs, valid_BL) for state, theirs in pairs]).sum()

    def _total(self, parts: dict[str, Tensor], hard: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        config = self.config
        weights = {
            "logits": config.logits_weight,
            "hidden": config.hidden_weight,
            "attention": config.attention_weight,
            "hard": config.hard_label_weight,
        }
        if hard is not None:
            parts = {**parts, "hard": hard}
        elif config.hard_label_weight > 0:
            raise DistillationError(
                f"{config.path}.hard_label_weight is {config.hard_label_weight} but the student computed no loss; "
                "the batch needs labels"
            )
        terms = [weights[name] * part.float() for name, part in parts.items() if weights[name] > 0]
        return torch.stack(terms).sum(), parts


def _paired(student: dict[int, _T], teacher: dict[int, _T], layer_map: Sequence[int]) -> Iterator[tuple[_T, _T]]:
    """What was captured of mapped layers, pair by pair; it is let go with its last use."""
    for i, j in enumerate(layer_map):
        yield student.pop(i), teacher[j] if j in layer_map[i + 1 :] else teacher.pop(j)


def _logits(output: dict[str, Any], whose: str) -> Tensor:
    logits = output.get("logits")
    if not isinstance(logits, Tensor):
        raise DistillationError(f'the {whose} returned no logits; set "logits_weight": 0 to distil without them')
    return logits
