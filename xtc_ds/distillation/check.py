"""Whether two models can be distilled as a config asks; nothing is changed."""

from __future__ import annotations

from typing import Any

from torch import nn

from xtc_ds.distillation.layer_map import LayerMap, make_layer_map
from xtc_ds.errors import ConfigError, DistillationError, Problem
from xtc_ds.techniques.kd.config import Distillation

__all__ = ["check_distillation", "config_value"]


def check_distillation(
    student: nn.Module,
    teacher: nn.Module,
    config: Distillation,
    student_depth: int,
    teacher_depth: int,
    kept_layers: tuple[int, ...] | None = None,
) -> LayerMap:
    """The layer map, after all checks that need no forward pass.

    student_depth is the depth after layer reduction, kept_layers what the reduction keeps of the teacher.

    Raises ConfigError (layer map, attention heads, cache without a folder) or DistillationError (the teacher is
    part of the student).
    """
    _check_apart(student, teacher)
    if config.cache != "none" and config.cache_folder is None:
        what = f'"cache": "{config.cache}" needs a folder of its own; name one, such as "cache_folder": "cache/logits"'
        raise ConfigError([Problem(f"{config.path}.cache_folder", what)])
    layer_map = LayerMap(tuple(range(student_depth)))
    if config.hidden_weight > 0 or config.attention_weight > 0 or config.layer_map is not None:
        layer_map = make_layer_map(student_depth, teacher_depth, config.layer_map, kept_layers, config.path)
    if config.attention_weight > 0 and config.attention_type != "relations":
        heads = [config_value(model, "num_attention_heads") for model in (student, teacher)]
        if None not in heads and heads[0] != heads[1]:
            message = (
                f"'{config.attention_type}' needs equal numbers of attention heads; found {heads[0]} in the student "
                f'and {heads[1]} in the teacher; use "relations" or "attention_weight": 0'
            )
            raise ConfigError([Problem(f"{config.path}.attention_type", message)])
    return layer_map


def config_value(model: nn.Module, name: str) -> Any:
    """``model.config.<name>`` by Hugging Face's name (``hidden_size``, ...), or None."""
    return getattr(getattr(model, "config", None), name, None)


def _check_apart(student: nn.Module, teacher: nn.Module) -> None:
    if any(module is teacher for module in student.modules()):
        raise DistillationError("the teacher is the student or a part of it; give a copy")
    own = {id(parameter) for parameter in student.parameters()}
    shared = next((name for name, p in teacher.named_parameters() if id(p) in own), None)
    if shared is not None:
        raise DistillationError(f"teacher and student share the parameter {shared}; give a copy of the teacher")
