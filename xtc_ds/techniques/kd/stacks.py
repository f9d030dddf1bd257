"""The lists of layers of student and teacher that distillation looks at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from xtc_ds.config import CompressionConfig
from xtc_ds.distillation.check import needs_layers
from xtc_ds.plan import Row
from xtc_ds.plan.stack import LayerStack, find_layer_stack

__all__ = ["StudentStack", "find_stack", "student_stack"]

_NO_LAYERS = LayerStack("", nn.ModuleList())


@dataclass(frozen=True)
class StudentStack:
    """The student's list of layers before the layer reduction is carried out; an empty one where no loss needs it.

    kept: the layers of the teacher's list that the reduction keeps; None where it leaves this list alone.
    """

    stack: LayerStack
    kept: tuple[int, ...] | None

    @property
    def depth(self) -> int:
        """How many layers the trained student has."""
        layers = len(self.stack.layers)
        return len(self.kept) if self.kept and layers else layers


def student_stack(model: nn.Module, config: CompressionConfig, rows: Iterable[Row]) -> StudentStack:
    """The student's list of layers. rows: of all techniques that were planned before. Raises PlanError."""
    stack = find_stack(model, config)
    # What another list loses says nothing of this one.
    kept = (layers for row in rows for name, layers in row.kept_layers() if stack.name in ("", name))
    return StudentStack(stack, next(kept, None))


def find_stack(model: nn.Module, config: CompressionConfig) -> LayerStack:
    """The list that the ``kd`` block names, else the reduced one, else the largest; empty where no loss needs layers.

    Raises PlanError where it cannot be told.
    """
    kd, reduction = config.kd, config.layer_reduction
    assert kd is not None
    if not needs_layers(kd):
        return _NO_LAYERS
    if kd.module_name_prefix is None and reduction is not None and reduction.module_name_prefix is not None:
        return find_layer_stack(model, reduction.module_name_prefix, reduction.path)
    return find_layer_stack(model, kd.module_name_prefix, kd.path)
