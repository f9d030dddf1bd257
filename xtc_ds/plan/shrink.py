"""What pruning leaves of each module: which sides get smaller, by how much, and which weights hold zeros."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from xtc_ds.layer_kinds import Side, layer_kind
from xtc_ds.plan.rows import Kind, SparseRow, StructuredRow

__all__ = ["Cut", "Pruned", "cut_dims", "cut_shape", "pruned_modules"]


@dataclass(frozen=True)
class Cut:
    """One side of a module that shrinks: ``kept`` of ``units`` equal contiguous parts stay, as ``row`` decides."""

    side: Side
    row: StructuredRow

    def size(self, full: int) -> int:
        """What stays of a dimension of ``full``."""
        return full // self.row.units * self.row.kept


@dataclass
class Pruned:
    """What happens to one module.

    kind: of the module. cuts: sides that shrink. masks: rules that leave zeros in its weight.
    """

    kind: Kind
    cuts: list[Cut] = field(default_factory=list)
    masks: list[SparseRow | StructuredRow] = field(default_factory=list)

    @property
    def zeroed(self) -> bool:
        """Whether its weight has pruned parts that stay, as zeros."""
        return bool(self.masks)


def pruned_modules(sparse: Iterable[SparseRow], structured: Iterable[StructuredRow]) -> dict[str, Pruned]:
    """Module name to what pruning does to it; modules that stay as they are are left out."""
    result: dict[str, Pruned] = {}
    for row in sparse:
        result.setdefault(row.module, Pruned(row.kind)).masks.append(row)
    for rule in structured:
        own = result.setdefault(rule.module, Pruned(rule.kind))
        if not rule.related:
            own.masks.append(rule)
            continue
        own.cuts.append(Cut("in" if rule.technique == "head" else "out", rule))
        for related in rule.related:
            result.setdefault(related.module, Pruned(related.kind)).cuts.append(Cut(related.side, rule))
    return result


def cut_dims(pruned: Pruned, key: str, output_first: bool = False) -> list[tuple[int, Cut]]:
    """(dimension, cut) for each dimension of the module's tensor ``key`` that shrinks.

    output_first: the tensor is a weight turned to (O, I), whichever way the module stores it.
    """
    dims = layer_kind(pruned.kind).dims(key, stored=not output_first)
    return [(dims[cut.side], cut) for cut in pruned.cuts if cut.side in dims]


def cut_shape(shape: tuple[int, ...], dims: list[tuple[int, Cut]]) -> tuple[int, ...]:
    """``shape`` after the cuts."""
    sizes = list(shape)
    for dim, cut in dims:
        sizes[dim] = cut.size(sizes[dim])
    return tuple(sizes)
