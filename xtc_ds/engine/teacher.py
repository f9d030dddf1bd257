"""Find the teacher: the one that was given, one from a folder or the hub, or a copy of the model."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from xtc_ds.clone import clone_model
from xtc_ds.config import CompressionConfig
from xtc_ds.distillation.teacher import load_teacher
from xtc_ds.errors import ConfigError, Problem
from xtc_ds.freezing.freeze import unwrap
from xtc_ds.techniques.registry import teacher_is_used
from xtc_ds.zero import gathered, is_partitioned

__all__ = ["resolve_teacher", "snapshot"]

logger = logging.getLogger(__name__)


def resolve_teacher(model: nn.Module, config: CompressionConfig, teacher: nn.Module | str | None) -> nn.Module | None:
    """The teacher from the argument, else from the ``kd`` block; "self" is a copy of the model in its current state.

    None if neither distillation nor layer reduction is on. A teacher with partitioned parameters is gathered into a
    copy, unless it is in a ZeRO-3 engine of its own (made by ``deepspeed.initialize`` without an optimizer), which
    gathers the parameters itself.

    Raises ConfigError if distillation is on without a teacher, TeacherError if the teacher cannot be loaded.
    """
    if not teacher_is_used(config):
        if teacher is not None:
            logger.warning("the teacher is not used: the config has neither kd nor layer_reduction enabled")
        return None
    source = teacher if teacher is not None else (config.kd.teacher if config.kd else None)
    if source is None:
        if config.kd is None:
            return None
        what = 'distillation needs a teacher; pass initialize(..., teacher=...) or name a folder, a hub id or "self"'
        raise ConfigError([Problem(f"{config.kd.path}.teacher", what)])
    if isinstance(source, str):
        source = snapshot(model) if source == "self" else load_teacher(source, model)
    elif source is model:
        source = snapshot(model)
    model_itself = unwrap(source)
    partitioned = any(is_partitioned(parameter) for parameter in model_itself.parameters())
    # Only an engine gathers the teacher's parameters in the forward; without one they must be whole.
    return snapshot(model_itself) if partitioned and model_itself is source else model_itself


def snapshot(model: nn.Module) -> nn.Module:
    """A copy of a model with whole parameters without gradients, hooks or ZeRO partitioning. All ranks call this."""

    def copy(old: Tensor, stored: bool) -> Tensor:
        with gathered([old]), torch.no_grad():
            return old.detach().clone()

    return clone_model(model, copy)
