"""Check whether two models can be distilled as configured; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from xtc_ds.distillation.layer_map import LayerMap, make_layer_map
from xtc_ds.distillation.settings import DistillationSettings, active_losses
from xtc_ds.errors import ConfigError, DistillationError, Problem

__all__ = ["check_distillation", "needs_layers"]


def check_distillation(
    student: nn.Module,
    teacher: nn.Module,
    settings: DistillationSettings,
    student_depth: int,
    teacher_depth: int,
    kept_layers: tuple[int, ...] | None = None,
) -> LayerMap:
    """Run all checks that need no forward pass and return the layer map.

    student_depth: depth after layer reduction. kept_layers: indices of the teacher layers that the reduction keeps.

    Raises ConfigError (layer map, problems reported by losses, cache without a folder) or DistillationError (teacher
    and student share modules or parameters).
    """
    _check_apart(student, teacher)
    if settings.cache != "none" and settings.cache_folder is None:
        what = (
            f'"cache": "{settings.cache}" needs a folder of its own; name one, such as "cache_folder": "cache/logits"'
        )
        raise ConfigError([Problem(f"{settings.path}.cache_folder", what)])
    layer_map = LayerMap(tuple(range(student_depth)))
    if needs_layers(settings):
        layer_map = make_layer_map(student_depth, teacher_depth, settings.layer_map, kept_layers, settings.path)
    if problems := [*_loss_problems(student, teacher, settings), *_cache_problems(settings, layer_map)]:
        raise ConfigError(problems)
    return layer_map


def needs_layers(settings: DistillationSettings) -> bool:
    """Whether distillation needs the list of layers of both models."""
    return settings.layer_map is not None or any(loss.needs_layers for loss in active_losses(settings))


def _loss_problems(student: nn.Module, teacher: nn.Module, settings: DistillationSettings) -> Iterator[Problem]:
    for loss in active_losses(settings):
        for key, what in loss.problems(student, teacher):
            yield Problem(f"{settings.path}.{key}", what)


def _cache_problems(settings: DistillationSettings, layer_map: LayerMap) -> Iterator[Problem]:
    for loss in active_losses(settings) if settings.cache != "none" else ():
        taps = loss.taps(layer_map)
        if taps.hidden or taps.attention or taps.outputs not in ((), ("logits",)):
            what = f'keeps logits alone, but {loss.weight_key} > 0 needs more of the teacher; set "cache": "none"'
            yield Problem(f"{settings.path}.cache", what)


def _check_apart(student: nn.Module, teacher: nn.Module) -> None:
    if any(module is teacher for module in student.modules()):
        raise DistillationError("the teacher is the student or a part of it; give a copy")
    own = {id(parameter) for parameter in student.parameters()}
    shared = next((name for name, p in teacher.named_parameters() if id(p) in own), None)
    if shared is not None:
        raise DistillationError(f"teacher and student share the parameter {shared}; give a copy of the teacher")
