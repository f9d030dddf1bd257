"""What will be done to each module: the rows of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xtc_ds.formats import ActivationFormat, Grouping, WeightFormat, format_for_bits
from xtc_ds.plan.schedule import BitSchedule
from xtc_ds.techniques.sparse_pruning.config import PruningMethod
from xtc_ds.techniques.weight_quantization.config import Rounding

__all__ = ["ActivationRow", "Kind", "ReductionRow", "RelatedRow", "SparseRow", "StructuredRow", "WeightRow"]

# The name of a layer kind, see ``xtc_ds.layer_kinds``.
Kind = str


@dataclass(frozen=True)
class WeightRow:
    """Weight quantization of one module.

    shape: (O, I), output features first also for Conv1D, whose stored weight is (I, O); of a Conv2d
        (O, I / groups, kH, kW).
    rounding: "stochastic" rounds at random while training; what is shipped is rounded to the nearest.
    change_ratio: how much the share of the unquantized weight falls per step after each change of bits; None: no
        mixing.
    """

    module: str
    kind: Kind
    group: str
    shape: tuple[int, ...]
    schedule: BitSchedule
    grouping: Grouping
    symmetric: bool
    family: str
    rounding: Rounding = "nearest"
    change_ratio: float | None = None

    def format_at(self, step: int) -> WeightFormat | None:
        """The format in force after ``step`` applied optimizer steps; None before the offset."""
        bits = self.schedule.at(step)
        return None if bits is None else format_for_bits(bits, self.symmetric, self.family)

    @property
    def target_format(self) -> WeightFormat:
        """The format at the end of the schedule, in which the weight is stored."""
        return format_for_bits(self.schedule.target_bits, self.symmetric, self.family)


@dataclass(frozen=True)
class ActivationRow:
    """Quantization of one module's input."""

    module: str
    kind: Kind
    group: str
    format: ActivationFormat
    offset: int


@dataclass(frozen=True)
class SparseRow:
    """Sparse pruning of one module's weight.

    shape: of the weight, outputs first (also for Conv1D); a Conv2d has four sizes.
    offset, end, stride: applied optimizer steps at which the mask comes into force, is final, and is renewed in
        between; ``end`` equals ``offset`` where the mask is not built up step by step.
    """

    module: str
    kind: Kind
    group: str
    shape: tuple[int, ...]
    method: PruningMethod
    dense_ratio: float
    block_pattern: str | None
    offset: int
    end: int
    stride: int


@dataclass(frozen=True)
class RelatedRow:
    """A module that shrinks along with a pruned one.

    side: "in" it loses input features or channels; "out" it loses outputs (with their bias); "features" it has one
        value per channel (BatchNorm2d).
    """

    module: str
    kind: Kind
    side: Literal["in", "out", "features"]


@dataclass(frozen=True)
class StructuredRow:
    """Pruning of whole rows (outputs of a Linear), heads (blocks of its inputs) or channels (outputs of a Conv2d).

    units: how many rows, heads or channels there are; kept: how many stay.
    related: what shrinks along when the model is frozen; empty: the pruned parts stay, as zeros.
    """

    module: str
    kind: Kind
    group: str
    technique: Literal["row", "head", "channel"]
    shape: tuple[int, ...]
    method: PruningMethod
    units: int
    kept: int
    offset: int
    related: tuple[RelatedRow, ...]


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
