"""Find the lists of layers of student and teacher that distillation compares."""

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
    """The student's list of layers before layer reduction is carried out; an empty one if no loss needs layers.

    kept: indices of the teacher layers that the reduction keeps; None if it does not change this list.
    """

    stack: LayerStack
    kept: tuple[int, ...] | None

    @property
    def depth(self) -> int:
        """The number of layers of the student in training."""
        layers = len(self.stack.layers)
        return len(self.kept) if self.kept and layers else layers


def student_stack(model: nn.Module, config: CompressionConfig, rows: Iterable[Row]) -> StudentStack:
    """Find the student's list of layers. rows: of all techniques planned before. Raises PlanError."""
    stack = find_stack(model, config)
    # A reduction of another list does not concern this one.
    kept = (layers for row in rows for name, layers in row.kept_layers() if stack.name in ("", name))
    return StudentStack(stack, next(kept, None))


def find_stack(model: nn.Module, config: CompressionConfig) -> LayerStack:
    """The list named in the ``kd`` block, else the reduced one, else the largest; an empty one if no loss needs layers.

    Raises PlanError if none is found or several are equally likely.
    """
    kd, reduction = config.kd, config.layer_reduction
    assert kd is not None
    if not needs_layers(kd):
        return _NO_LAYERS
    if kd.module_name_prefix is None and reduction is not None and reduction.module_name_prefix is not None:
        return find_layer_stack(model, reduction.module_name_prefix, reduction.path)
    return find_layer_stack(model, kd.module_name_prefix, kd.path)
