"""What will be done to each module: the rows of a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from xtc_ds.formats import ActivationFormat, Grouping, WeightFormat, format_for_bits
from xtc_ds.plan.schedule import BitSchedule

__all__ = ["ActivationRow", "Kind", "ReductionRow", "WeightRow"]

Kind = Literal["Linear", "Embedding", "Conv1D"]


@dataclass(frozen=True)
class WeightRow:
    """Weight quantization of one module.

    shape: (O, I), output features first also for Conv1D, whose stored weight is (I, O).
    """

    module: str
    kind: Kind
    group: str
    shape: tuple[int, int]
    schedule: BitSchedule
    grouping: Grouping
    symmetric: bool
    family: str

    def format_at(self, step: int) -> WeightFormat | None:
        """The format in force after ``step`` applied optimizer steps; None before the offset."""
        bits = self.schedule.at(step)
        return None if bits is None else format_for_bits(bits, self.symmetric, self.family)

    @property
    def target_format(self) -> WeightFormat:
        """The format at the end of the schedule, in which the weight is stored."""
        return format_for_bits(self.schedule.target_bits, self.symmetric, self.family)

    def packed_bytes(self, float_bytes: int) -> int:
        """Bytes of codes and scales in a file whose floats take ``float_bytes`` each."""
        weight_format = self.target_format
        scales = self.grouping.count(self.shape) * (2 if weight_format.has_zero else 1)
        return weight_format.packed_bytes(math.prod(self.shape)) + scales * float_bytes


@dataclass(frozen=True)
class ActivationRow:
    """Quantization of one module's input."""

    module: str
    kind: Kind
    group: str
    format: ActivationFormat
    offset: int


@dataclass(frozen=True)
class ReductionRow:
    """Which layers of a stack stay.

    stack: dotted name of the layer list; depth: layers of the source (the teacher, or the model itself).
    kept: indices into the source, one per remaining layer.
    cut: whether layers of the model are dropped (False: the model is built shallow already).
    other_modules: modules beside the stack that start from the teacher; None means all that fit.
    """

    stack: str
    depth: int
    kept: tuple[int, ...]
    cut: bool
    other_modules: tuple[str, ...] | None
