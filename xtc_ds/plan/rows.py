"""What will be done to each module: the rows of a plan, and what the mechanism asks of any row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from xtc_ds.formats import ActivationFormat, Grouping, WeightFormat, format_for_bits
from xtc_ds.layer_kinds import Side
from xtc_ds.plan.schedule import BitSchedule
from xtc_ds.pruning.patterns import Blocks, KeepOf, parse_pattern
from xtc_ds.pruning.top import kept_count

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "ActivationRow",
    "CodedRow",
    "Cut",
    "KeptWeights",
    "Kind",
    "RelatedRow",
    "Row",
    "SparseRow",
    "StructuredRow",
    "WeightRow",
    "ZeroingRow",
]

# The name of a layer kind, see ``xtc_ds.layer_kinds``.
Kind = str


class Row:
    """One entry of a plan. A technique's rows are frozen dataclasses derived from this class.

    report_key: the key of a list of such rows in ``plan_to_dict``, and of a table of their own in ``plan_table``; "":
    they are told along with the modules.
    """

    report_key: ClassVar[str] = ""

    def cuts(self) -> Iterable[tuple[str, Kind, Cut]]:
        """(module name, kind, cut) for each side of a module that gets smaller when the model is frozen."""
        return ()

    def added_tensors(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        """Name and shape of float tensors that the packed file holds because of this row."""
        return ()

    def kept_layers(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        """(name of a list of layers, which layers of the source it consists of) where layers are dropped."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for programs; asked for where there is a ``report_key``."""
        raise NotImplementedError

    @classmethod
    def table(cls, rows: Sequence[Any]) -> RenderableType:
        """All rows of this class for people; asked for where there is a ``report_key``."""
        raise NotImplementedError


@dataclass(frozen=True)
class Cut:
    """One side of a module that shrinks: ``kept`` of ``units`` equal contiguous parts stay, as ``row`` decides.

    reason: the module and technique that decide, for messages.
    """

    side: Side
    units: int
    kept: int
    row: Row
    reason: str

    def size(self, full: int) -> int:
        """What stays of a dimension of ``full``."""
        return full // self.units * self.kept


@dataclass(frozen=True)
class KeptWeights:
    """count: how many weights stay. pattern: (kept, of) neighbouring inputs, or None where there is no such pattern."""

    count: int
    pattern: tuple[int, int] | None = None


class CodedRow(Row):
    """A row that lets the weight of ``module`` be stored as codes.

    shape: of the weight, outputs first. grouping: which weights share a scale.
    """

    module: str
    group: str
    shape: tuple[int, ...]
    grouping: Grouping

    @property
    def target_format(self) -> WeightFormat:
        """The format in which the weight is stored."""
        raise NotImplementedError

    @property
    def grouping_place(self) -> str:
        """The config key path that says which weights share a scale."""
        raise NotImplementedError


class ZeroingRow(Row):
    """A row that may leave zeros in the weight of ``module``."""

    module: str
    kind: Kind

    @property
    def leaves_zeros(self) -> bool:
        """Whether the pruned parts stay as zeros; False where they are cut off."""
        raise NotImplementedError

    def planned_kept(self, numel: int) -> KeptWeights:
        """What stays of a weight of ``numel`` elements at the end of the schedule."""
        raise NotImplementedError

    @property
    def pattern(self) -> tuple[int, int] | None:
        """(kept, of) neighbouring inputs that the zeros may follow."""
        return None


@dataclass(frozen=True)
class WeightRow(CodedRow):
    """Weight quantization of one module.

    shape: (O, I), output features first also for Conv1D, whose stored weight is (I, O); of a Conv2d
        (O, I / groups, kH, kW).
    rounding: "stochastic" rounds at random while training; what is shipped is rounded to the nearest.
    change_ratio: how much the share of the unquantized weight falls per step after each change of bits; None: no
        mixing.
    assignment: of weights to what a format learns: once ("fixed") or in every forward ("nearest").
    """

    module: str
    kind: Kind
    group: str
    shape: tuple[int, ...]
    schedule: BitSchedule
    grouping: Grouping
    symmetric: bool
    family: str
    rounding: str = "nearest"
    change_ratio: float | None = None
    assignment: Literal["fixed", "nearest"] = "fixed"

    def format_at(self, step: int) -> WeightFormat | None:
        """The format in force after ``step`` applied optimizer steps; None before the offset."""
        bits = self.schedule.at(step)
        return None if bits is None else format_for_bits(bits, self.symmetric, self.family)

    @property
    def target_format(self) -> WeightFormat:
        """The format at the end of the schedule, in which the weight is stored."""
        return format_for_bits(self.schedule.target_bits, self.symmetric, self.family)

    @property
    def grouping_place(self) -> str:
        """The group's own key, also where a shared one is in force."""
        return f"compression_training.weight_quantization.different_groups.{self.group}.params.quantize_groups"


@dataclass(frozen=True)
class ActivationRow(Row):
    """Quantization of one module's input."""

    module: str
    kind: Kind
    group: str
    format: ActivationFormat
    offset: int

    def added_tensors(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        """The observed range of a static format."""
        if self.format.calibration == "static":
            yield f"{self.module}.activation_quantizer.x_min_max", (2,)


@dataclass(frozen=True)
class SparseRow(ZeroingRow):
    """Sparse pruning of one module's weight.

    shape: of the weight, outputs first (also for Conv1D); a Conv2d has four sizes.
    offset, end, stride: applied optimizer steps at which the mask comes into force, is final, and is renewed in
        between; ``end`` equals ``offset`` where the mask is not built up step by step.
    """

    module: str
    kind: Kind
    group: str
    shape: tuple[int, ...]
    method: str
    dense_ratio: float
    block_pattern: str | None
    offset: int
    end: int
    stride: int

    @property
    def leaves_zeros(self) -> bool:
        """Single weights and blocks always stay as zeros."""
        return True

    @property
    def pattern(self) -> tuple[int, int] | None:
        """The N:M pattern, if there is one."""
        pattern = parse_pattern(self.block_pattern)
        return (pattern.kept, pattern.of) if isinstance(pattern, KeepOf) else None

    def planned_kept(self, numel: int) -> KeptWeights:
        """By the density, in whole blocks or groups."""
        pattern = parse_pattern(self.block_pattern)
        if isinstance(pattern, KeepOf):
            groups = numel // pattern.of
            pruned_groups = pattern.pruned_groups(self.dense_ratio, groups)
            return KeptWeights(
                numel - pruned_groups * (pattern.of - pattern.kept), self.pattern if pruned_groups == groups else None
            )
        size = pattern.rows * pattern.columns if isinstance(pattern, Blocks) else 1
        return KeptWeights(kept_count(self.dense_ratio, numel // size) * size)


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
class StructuredRow(ZeroingRow):
    """Pruning of whole rows (outputs of a Linear), heads (blocks of its inputs) or channels (outputs of a Conv2d).

    units: how many rows, heads or channels there are; kept: how many stay.
    related: what shrinks along when the model is frozen; empty: the pruned parts stay, as zeros.
    """

    module: str
    kind: Kind
    group: str
    technique: Literal["row", "head", "channel"]
    shape: tuple[int, ...]
    method: str
    units: int
    kept: int
    offset: int
    related: tuple[RelatedRow, ...]

    @property
    def leaves_zeros(self) -> bool:
        """Whether nothing is related, so that the pruned parts stay."""
        return not self.related

    def planned_kept(self, numel: int) -> KeptWeights:
        """Whole units."""
        return KeptWeights(numel // self.units * self.kept)

    def cuts(self) -> Iterable[tuple[str, Kind, Cut]]:
        """The module itself, and what is related to it."""
        if not self.related:
            return
        reason = f"'{self.module}' ({self.technique}_pruning)"
        yield self.module, self.kind, self._cut("in" if self.technique == "head" else "out", reason)
        for related in self.related:
            yield related.module, related.kind, self._cut(related.side, reason)

    def _cut(self, side: Side, reason: str) -> Cut:
        return Cut(side, self.units, self.kept, self, reason)
