"""What is left of each module: which sides get smaller, by how much, and which weights hold zeros."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from xtc_ds.layer_kinds import layer_kind
from xtc_ds.plan.rows import CodedRow, Cut, Kind, Row, ZeroingRow

__all__ = ["ModuleChange", "coded_rows", "cut_dims", "cut_shape", "module_changes"]


@dataclass
class ModuleChange:
    """What happens to the tensors of one module.

    kind: of the module. cuts: sides that shrink. zeros: rows that leave zeros in its weight.
    """

    kind: Kind
    cuts: list[Cut] = field(default_factory=list)
    zeros: list[ZeroingRow] = field(default_factory=list)


def module_changes(rows: Iterable[Row]) -> dict[str, ModuleChange]:
    """Module name to what the rows do to its shape and its zeros; modules that stay as they are are left out."""
    result: dict[str, ModuleChange] = {}
    for row in rows:
        if isinstance(row, ZeroingRow) and row.leaves_zeros:
            result.setdefault(row.module, ModuleChange(row.kind)).zeros.append(row)
        for name, kind, cut in row.cuts():
            result.setdefault(name, ModuleChange(kind)).cuts.append(cut)
    return result


def coded_rows(rows: Iterable[Row]) -> dict[str, CodedRow]:
    """Module name to the row that stores its weight as codes."""
    return {row.module: row for row in rows if isinstance(row, CodedRow)}


def cut_dims(change: ModuleChange, key: str, output_first: bool = False) -> list[tuple[int, Cut]]:
    """(dimension, cut) for each dimension of the module's tensor ``key`` that shrinks.

    output_first: the tensor is a weight turned to (O, I), whichever way the module stores it.
    """
    dims = layer_kind(change.kind).dims(key, stored=not output_first)
    return [(dims[cut.side], cut) for cut in change.cuts if cut.side in dims]


def cut_shape(shape: tuple[int, ...], dims: list[tuple[int, Cut]]) -> tuple[int, ...]:
    """``shape`` after the cuts."""
    sizes = list(shape)
    for dim, cut in dims:
        sizes[dim] = cut.size(sizes[dim])
    return tuple(sizes)
