"""The rows of a plan, which say what will be done to each module, and the interface that all rows share."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xtc_ds.formats import ActivationFormat, Grouping, WeightFormat
from xtc_ds.layer_kinds import Side

__all__ = ["CodedInputRow", "CodedRow", "Cut", "KeptWeights", "Kind", "Row", "ZeroingRow", "starred"]

# Name of a layer kind, see ``xtc_ds.layer_kinds``.
Kind = str


class Row:
    """One entry of a plan. A technique's rows are frozen dataclasses derived from this class.

    module: dotted name; a row that does not belong to a single module has none.
    """

    module: str

    def cuts(self) -> Iterable[tuple[str, Kind, Cut]]:
        """(module name, kind, cut) for each side of a module that shrinks when the model is frozen."""
        return ()

    def added_tensors(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        """Name and shape of the float tensors that this row adds to the packed file."""
        return ()

    def kept_layers(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        """(name of a ModuleList, indices of the source layers that are kept in it), if layers are dropped."""
        return ()

    def add_to_report(self, report: dict[str, Any], technique: str, packed_bytes: Mapping[str, int]) -> None:
        """Add the row to the JSON plan ``report``, in place; by default to the list named after the technique.

        packed_bytes: module name to packed size, for modules whose weight is stored as codes.
        """
        report.setdefault(technique, []).append({"module": self.module})

    def treatment(self) -> Hashable:
        """A key that is equal for rows that differ only in their module; these share a line of the main table."""
        return None

    def main_cells(self) -> Mapping[str, str]:
        """Cells of the main table: "shape", "weights", "activations", "from step"; empty for a row without a line."""
        return {}

    @property
    def table_title(self) -> str | None:
        """The title of another table of the printed plan in which the row has a line; None if it has none."""
        return None

    def table_cells(self) -> Mapping[str, str]:
        """Heading to cell, for the line in the table ``table_title``; rows with equal cells share a line."""
        return {}

    def line(self) -> str | None:
        """A line of text below the tables; None for none."""
        return None


@dataclass(frozen=True)
class Cut:
    """One side of a module that shrinks: of ``units`` equal contiguous parts, ``kept`` remain; ``row`` decides which.

    reason: the module and technique that decide, for error messages.
    """

    side: Side
    units: int
    kept: int
    row: Row
    reason: str

    def size(self, full: int) -> int:
        """The remaining size of a dimension of size ``full``."""
        return full // self.units * self.kept


@dataclass(frozen=True)
class KeptWeights:
    """count: number of kept weights. pattern: (kept, of) adjacent inputs, as in 2:4 sparsity; None if there is none."""

    count: int
    pattern: tuple[int, int] | None = None


class CodedRow(Row):
    """A row by which the weight of ``module`` is stored as codes.

    shape: shape of the weight, outputs first. grouping: which weights share a scale.
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
        """The path of the config key that sets which weights share a scale."""
        raise NotImplementedError


class CodedInputRow(Row):
    """A row by which the input of ``module`` is quantized."""

    module: str
    group: str
    format: ActivationFormat


class ZeroingRow(Row):
    """A row that may leave zeros in the weight of ``module``."""

    module: str
    kind: Kind

    @property
    def leaves_zeros(self) -> bool:
        """Whether pruned parts are kept as zeros; False if they are cut off."""
        raise NotImplementedError

    def planned_kept(self, numel: int) -> KeptWeights:
        """What is kept of a weight of ``numel`` elements at the end of the schedule."""
        raise NotImplementedError

    @property
    def pattern(self) -> tuple[int, int] | None:
        """(kept, of) adjacent inputs, if the zeros follow such a pattern; else None."""
        return None


def starred(name: str) -> str:
    """A module name with each layer index replaced by ``*``."""
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)
