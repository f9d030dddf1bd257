"""What will be done to each module: the rows of a plan, and what the mechanism asks of any row."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xtc_ds.formats import ActivationFormat, Grouping, WeightFormat
from xtc_ds.layer_kinds import Side

__all__ = ["CodedInputRow", "CodedRow", "Cut", "KeptWeights", "Kind", "Row", "ZeroingRow", "starred"]

# The name of a layer kind, see ``xtc_ds.layer_kinds``.
Kind = str


class Row:
    """One entry of a plan. A technique's rows are frozen dataclasses derived from this class.

    module: dotted name; a row that is of no single module has none.
    """

    module: str

    def cuts(self) -> Iterable[tuple[str, Kind, Cut]]:
        """(module name, kind, cut) for each side of a module that gets smaller when the model is frozen."""
        return ()

    def added_tensors(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        """Name and shape of float tensors that the packed file holds because of this row."""
        return ()

    def kept_layers(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        """(name of a list of layers, which layers of the source it consists of) where layers are dropped."""
        return ()

    def add_to_report(self, report: dict[str, Any], technique: str, packed_bytes: Mapping[str, int]) -> None:
        """Add plain data to the plan as JSON; by default to the list that has the technique's name.

        packed_bytes: of each module whose weight is stored as codes.
        """
        report.setdefault(technique, []).append({"module": self.module})

    def treatment(self) -> Hashable:
        """Equal for rows that differ in their module only: these share a line of the main table."""
        return None

    def main_cells(self) -> Mapping[str, str]:
        """Cells of the main table: "shape", "weights", "activations", "from step"; empty: it has no line there."""
        return {}

    @property
    def table_title(self) -> str | None:
        """The title of a further table of the printed plan in which the row has a line; None: in none."""
        return None

    def table_cells(self) -> Mapping[str, str]:
        """Heading to cell of a line in the table that ``table_title`` names; rows with equal cells share a line."""
        return {}

    def line(self) -> str | None:
        """A line below the tables."""
        return None


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


class CodedInputRow(Row):
    """A row that lets the input of ``module`` become codes."""

    module: str
    group: str
    format: ActivationFormat


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


def starred(name: str) -> str:
    """A module name with a star for each layer index."""
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)
