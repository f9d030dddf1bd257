"""How a weight will be stored, which pruning may change."""

from __future__ import annotations

from collections.abc import Mapping

from xtc_ds.errors import FormatError, Problem
from xtc_ds.formats import Grouping, get_format
from xtc_ds.plan.changes import ModuleChange, cut_dims, cut_shape
from xtc_ds.plan.kept import planned_kept
from xtc_ds.plan.rows import CodedRow, KeptWeights
from xtc_ds.storage import Coded, Dense, Elementwise, Masked, Sparse, pruned_weight

__all__ = ["float_weight", "storage_problems", "stored_weight"]

# Ways to store the same codes differ in codes and masks alone: any size of floats will do.
_ANY_FLOAT = 4


def stored_weight(
    row: CodedRow, change: ModuleChange | None, found: KeptWeights | None = None
) -> Elementwise | Masked | Sparse:
    """How the weight of ``row`` is stored. Raises FormatError where its scale groups cannot be cut.

    found: what the mask keeps now; by default what it keeps when pruning is at its end.
    """
    weight_format = row.target_format
    if change is None:
        return Coded(weight_format, row.grouping, row.shape)
    dims = cut_dims(change, "weight", output_first=True)
    grouping, shape = _cut_grouping(row.grouping, row.shape, {dim for dim, _ in dims}), cut_shape(row.shape, dims)
    own = Coded(weight_format, grouping, shape)
    if not change.zeros:
        return own
    # Zeros need a code of their own, or a mask: signs with a zero are ternary codes, and shifted grids have none.
    name = weight_format.zero_format
    around = own if name is None else Coded(get_format(name), grouping, shape)
    kept = planned_kept(change, shape)
    if kept is None:
        return Masked(around) if around.needs_mask else around
    kept = found or kept
    # Where pruned weights are left out, the layer's own format needs no zeros.
    return pruned_weight(around, own, kept.count, kept.pattern, _ANY_FLOAT)


def float_weight(
    shape: tuple[int, ...], change: ModuleChange | None, float_bytes: int, found: KeptWeights | None = None
) -> Elementwise | Masked | Sparse:
    """How a weight of ``shape`` that is not quantized is stored, with its zeros or without them."""
    kept = planned_kept(change, shape) if change is not None else None
    if kept is None or len(shape) not in (2, 4):
        return Dense(shape)
    kept = found or kept
    return pruned_weight(Dense(shape), Dense(shape), kept.count, kept.pattern, float_bytes)


def _cut_grouping(grouping: Grouping, shape: tuple[int, ...], dims: set[int]) -> Grouping:
    """The groups of what is left. Those of whole rows become one per row, so that any row can go."""
    if grouping.kind != "group" or not dims:
        return grouping
    if shape[0] % grouping.groups == 0:
        return Grouping("row")
    rows = f"{shape[0]} rows of shape {shape}"
    raise FormatError(f"{grouping.groups} scale groups do not each hold a whole number of the {rows}, some of which go")


def storage_problems(coded: Mapping[str, CodedRow], changes: Mapping[str, ModuleChange]) -> list[Problem]:
    """What stands in the way of shrinking: a side that two rows cut, scale groups that a cut would part.

    coded: the rows that store weights as codes, by module name.
    """
    problems = []
    for name, change in changes.items():
        sides = [cut.side for cut in change.cuts]
        if len(sides) > len(set(sides)):
            groups = " and ".join(cut.reason for cut in change.cuts)
            message = f"'{name}' would shrink on one side along with {groups}; let one of them be related to it"
            problems.append(Problem("compression_training", message))
    first: dict[str, FormatError] = {}
    for row in coded.values():
        try:
            stored_weight(row, changes.get(row.module))
        except FormatError as error:
            # One cause, whatever the shapes.
            error = first.setdefault(row.group, error)
            remedy = "set a divisor of the rows, or granularity 'row', or leave related_modules out"
            problems.append(Problem(row.grouping_place, f"'{row.module}': {error}; {remedy}"))
    return problems
