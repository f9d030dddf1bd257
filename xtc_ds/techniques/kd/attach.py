"""Attach the distillation loss to a compressed model."""

from __future__ import annotations

from torch import nn

from xtc_ds.config import CompressionConfig
from xtc_ds.distillation.distiller import Distiller
from xtc_ds.techniques.kd.stacks import StudentStack, find_stack
from xtc_ds.techniques.kd.teacher_dtype import in_dtype

__all__ = ["attach_distillation"]


def attach_distillation(
    model: nn.Module, teacher: nn.Module, config: CompressionConfig, student: StudentStack, device: str
) -> Distiller:
    """Attach a distillation loss to the compressed ``model``; ``teacher`` is converted to the configured dtype.

    student: found before the model was compressed. device: device type of both models, such as "cuda".
    """
    kd = config.kd
    assert kd is not None
    # Convert only now, because the student was initialized from the original weights, which are not rounded.
    converted = in_dtype(teacher, kd.teacher_dtype, device)
    teacher_layers = find_stack(converted, config).layers
    distiller = Distiller(model, converted, kd, student.stack.layers, teacher_layers, student.kept)
    distiller.attach()
    return distiller
