"""Plan a distillation: which losses with which weights, and which student layer learns from which teacher layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from itertools import chain

from torch import nn

from xtc_ds.distillation.attention_tap import check_observable
from xtc_ds.distillation.check import check_distillation, needs_layers
from xtc_ds.distillation.layer_map import LayerMap, make_layer_map
from xtc_ds.distillation.loss import DistillationLoss, Taps
from xtc_ds.distillation.model_config import config_value
from xtc_ds.distillation.settings import active_losses
from xtc_ds.errors import ConfigError, PlanError
from xtc_ds.plan import PlanContext, Planned
from xtc_ds.techniques.kd.rows import HARD_LABELS, DistillationRow
from xtc_ds.techniques.kd.stacks import StudentStack, find_stack, student_stack

__all__ = ["plan_distillation"]


def plan_distillation(context: PlanContext) -> Planned:
    """A row for each loss with a weight above 0. If the teacher is given, everything that can be refused is refused.

    Raises PlanError (lists of layers), ConfigError (layer map, heads) or DistillationError (teacher and student share
    parameters, attention that cannot be observed).
    """
    if context.teacher is not None:
        return Planned(list(_rows(context)))
    try:
        return Planned(list(_rows(context)))
    except (ConfigError, PlanError) as error:
        # Without a teacher nothing is distilled yet, so only warn about what initialize() is going to refuse.
        return Planned(warnings=list(error.problems))


def _rows(context: PlanContext) -> Iterator[DistillationRow]:
    kd, teacher = context.section, context.teacher
    student = student_stack(context.model, context.config, chain(*context.rows.values()))
    if teacher is None and kd.teacher == "self":
        teacher = context.model
    layer_map = _layer_map(context, student, teacher)
    teacher_stack = find_stack(teacher, context.config).name if teacher is not None else ""
    named = _name(context)
    for loss in active_losses(kd):
        stacks = (student.stack.name, teacher_stack) if loss.needs_layers else ("", "")
        unknown = loss.needs_layers and layer_map is None
        taps = None if unknown else loss.taps(layer_map or LayerMap(()))
        yield DistillationRow(loss.name, loss.weight, _options(loss), named, *stacks, taps)
    if kd.hard_label_weight > 0:
        yield DistillationRow(HARD_LABELS, kd.hard_label_weight, (), named, "", "", Taps())


def _layer_map(context: PlanContext, student: StudentStack, teacher: nn.Module | None) -> LayerMap | None:
    """Which student layer learns from which teacher layer; None if that depends on the depth of an unknown teacher."""
    kd = context.section
    if teacher is None:
        given = kd.layer_map or student.kept
        return LayerMap(given) if given else None
    depth = len(find_stack(teacher, context.config).layers)
    if teacher is context.model:  # a copy of the model will be the teacher
        return make_layer_map(student.depth, depth, kd.layer_map, student.kept, kd.path) if needs_layers(kd) else None
    layer_map = check_distillation(context.model, teacher, kd, student.depth, depth, student.kept)
    if keys := [loss.weight_key for loss in active_losses(kd) if loss.taps(layer_map).attention]:
        check_observable((context.model, teacher), keys)
    return layer_map


def _name(context: PlanContext) -> str:
    if context.teacher is None:
        return context.section.teacher or "the teacher that initialize() is given"
    source = config_value(context.teacher, "name_or_path")
    return type(context.teacher).__name__ + (f" ({source})" if source else "")


def _options(loss: DistillationLoss) -> tuple[tuple[str, object], ...]:
    return tuple((key.name, getattr(loss, key.name)) for key in fields(loss) if key.name != loss.weight_key)
