"""The distiller: in training, the student's forward returns a loss that includes the distillation losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from xtc_ds.distillation.attention_tap import disable_attention_tap, enable_attention_tap
from xtc_ds.distillation.check import check_distillation
from xtc_ds.distillation.combined_taps import attention_keys, student_tap, teacher_tap
from xtc_ds.distillation.decoding import counted_positions, with_decoder_inputs
from xtc_ds.distillation.hooks import AfterForward, BeforeForward
from xtc_ds.distillation.inputs import check_output, named_inputs, with_loss
from xtc_ds.distillation.logits_cache import LogitsCache
from xtc_ds.distillation.paired_forward import CapturedPairs, PairedForward
from xtc_ds.distillation.projection import attach_projection, projection_widths
from xtc_ds.distillation.settings import DistillationSettings, active_losses
from xtc_ds.distillation.taps import Capture
from xtc_ds.distillation.teacher_forward import PendingForward, TeacherForward
from xtc_ds.distillation.total import total_loss
from xtc_ds.errors import DistillationError

__all__ = ["Distiller"]


class Distiller:
    """Makes ``student(**batch)`` in training mode return an output whose loss is the distillation loss.

    student, teacher: models that return a Hugging Face output or a dict. The teacher is frozen and set to evaluation
        mode; it must be on the student's device and is not made a submodule of the student.
    settings: the losses with their weights. student_stack, teacher_stack: the layers of each model, in order.
    kept_layers: the teacher's layers that the layer reduction kept, if there was one.

    The loss is the sum of ``weight * loss`` over the losses with a weight above 0, plus
    ``hard_label_weight`` times the student's own loss (XTC, Wu et al., 2022: all weights 1, no hard labels). In
    evaluation mode, or without gradients, the student's forward is unchanged.

    Call ``attach`` before building an engine or optimizer. Copies and saved files of the student do not contain the
    teacher, and copies return their own loss.
    Raises ConfigError or DistillationError if the models do not fit.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        settings: DistillationSettings,
        student_stack: nn.ModuleList,
        teacher_stack: nn.ModuleList,
        kept_layers: tuple[int, ...] | None = None,
    ) -> None:
        depths = len(student_stack), len(teacher_stack)
        self.layer_map = check_distillation(student, teacher, settings, *depths, kept_layers)
        self.student, self.teacher, self.settings = student, teacher, settings
        # Unweighted losses of the last training forward, detached, and "loss", their weighted sum.
        self.last_parts: dict[str, Tensor] = {}
        self._taps = {loss: loss.taps(self.layer_map) for loss in active_losses(settings)}
        self._student_tap = student_tap(student_stack, self._taps)
        cached = settings.cache != "none" and settings.cache_folder is not None
        self._teacher_forward = TeacherForward(
            teacher,
            teacher_tap(teacher_stack, self._taps),
            frozenset(name for taps in self._taps.values() for name in taps.outputs),
            own_type=settings.teacher_dtype is not None,
            cache=LogitsCache(settings.cache_folder) if cached and settings.cache_folder else None,
        )
        self._projection: nn.Linear | None = None
        self._handles: list[RemovableHandle] = []
        self._pending: PendingForward | None = None

    def attach(self) -> None:
        """Register hooks on the student, add the projection if widths differ, and make attention observable.

        Raises DistillationError if attention is needed and cannot be observed.
        """
        if self._handles:
            return
        if keys := attention_keys(self._taps):
            try:
                enable_attention_tap(self.student, keys)
                enable_attention_tap(self.teacher, keys)
            except DistillationError:
                disable_attention_tap(self.student)
                raise
        widths = projection_widths(self.student, self.teacher)
        if widths and not self._projection and any(taps.projected for taps in self._taps.values()):
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
        """The projection's parameters, which are trained with the student; empty if the widths are equal."""
        return list(self._projection.parameters()) if self._projection is not None else []

    def before_forward(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run the teacher and start capturing; called by the student's forward pre-hook."""
        self._student_tap.close()
        self._pending = None
        if model.training and torch.is_grad_enabled():
            inputs = with_decoder_inputs(self.student, named_inputs(self.student, args, kwargs))
            # Run the teacher first: afterwards, the tensors saved for the student's backward would occupy memory, too.
            self._pending = self._teacher_forward.run(inputs)
            self._student_tap.__enter__()

    def after_forward(self, output: Any) -> Any:
        """The output with the distillation loss; called by the student's forward hook, with None on failure."""
        pending, self._pending = self._pending, None
        if pending is None or output is None:
            self._student_tap.close()
            return None
        captured = self._student_tap.take()
        check_output(output, "student")
        device = next(self.student.parameters()).device.type
        # Autocast would round the products in the losses to 16 bits.
        with torch.autocast(device, enabled=False):
            parts = self._parts(output, captured, pending)
            total, parts = total_loss(self.settings, parts, output.get("loss"))
        self.last_parts = {"loss": total.detach(), **{name: part.detach() for name, part in parts.items()}}
        return with_loss(output, total)

    def _parts(self, output: Any, captured: Capture, pending: PendingForward) -> dict[str, Tensor]:
        targets, valid = counted_positions(self.student, self._student_tap.stack, pending.inputs)
        pairs = CapturedPairs(captured, pending.teacher_capture, self._taps.values())
        parts = {}
        for loss, taps in self._taps.items():
            forward = PairedForward(
                student=self.student,
                student_outputs=output,
                teacher_outputs=pending.teacher_outputs,
                valid_targets_BL=targets,
                valid_BL=valid,
                loss=loss,
                taps=taps,
                captured=pairs,
                projection=self._projection,
            )
            parts[loss.name] = loss.compute(forward)
        return parts
