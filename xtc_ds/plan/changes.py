"""How pruning changes each module: which sides shrink, by how much, and which weights become zeros."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from xtc_ds.layer_kinds import layer_kind
from xtc_ds.plan.rows import CodedRow, Cut, Kind, Row, ZeroingRow

__all__ = ["ModuleChange", "coded_rows", "cut_dims", "cut_shape", "module_changes"]


@dataclass
class ModuleChange:
    """How the tensors of one module change.

    kind: layer kind of the module. cuts: the sides that shrink. zeros: the rows that leave zeros in its weight.
    """

    kind: Kind
    cuts: list[Cut] = field(default_factory=list)
    zeros: list[ZeroingRow] = field(default_factory=list)


def module_changes(rows: Iterable[Row]) -> dict[str, ModuleChange]:
    """Map module names to the changes that the rows make; modules without changes are left out."""
    result: dict[str, ModuleChange] = {}
    for row in rows:
        if isinstance(row, ZeroingRow) and row.leaves_zeros:
            result.setdefault(row.module, ModuleChange(row.kind)).zeros.append(row)
        for name, kind, cut in row.cuts():
            result.setdefault(name, ModuleChange(kind)).cuts.append(cut)
    return result


def coded_rows(rows: Iterable[Row]) -> dict[str, CodedRow]:
    """Map module names to the row by which their weight is stored as codes."""
    return {row.module: row for row in rows if isinstance(row, CodedRow)}


def cut_dims(change: ModuleChange, key: str, output_first: bool = False) -> list[tuple[int, Cut]]:
    """(dimension, cut) for each dimension along which the module's tensor ``key`` shrinks.

    output_first: the tensor is a weight in layout (O, I), independent of the layout in which the module stores it.
    """
    dims = layer_kind(change.kind).dims(key, stored=not output_first)
    return [(dims[cut.side], cut) for cut in change.cuts if cut.side in dims]


def cut_shape(shape: tuple[int, ...], dims: list[tuple[int, Cut]]) -> tuple[int, ...]:
    """``shape`` after the cuts."""
    sizes = list(shape)
    for dim, cut in dims:
        sizes[dim] = cut.size(sizes[dim])
    return tuple(sizes)
