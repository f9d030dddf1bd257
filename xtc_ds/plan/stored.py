"""How a weight will be stored, including the effects of pruning."""

from __future__ import annotations

from collections.abc import Mapping

from xtc_ds.errors import FormatError, Problem
from xtc_ds.formats import Grouping, get_format
from xtc_ds.plan.changes import ModuleChange, cut_dims, cut_shape
from xtc_ds.plan.kept import planned_kept
from xtc_ds.plan.rows import CodedRow, KeptWeights
from xtc_ds.storage import Coded, Dense, Elementwise, Masked, Sparse, pruned_weight

__all__ = ["float_weight", "storage_problems", "stored_weight"]

# Storage layouts of the same codes differ only in the size of codes and masks, so the size of floats is irrelevant.
_ANY_FLOAT = 4


def stored_weight(
    row: CodedRow, change: ModuleChange | None, found: KeptWeights | None = None
) -> Elementwise | Masked | Sparse:
    """How the weight of ``row`` is stored. Raises FormatError if its scale groups cannot be cut.

    found: what the mask keeps now; by default what it will keep at the end of pruning.
    """
    weight_format = row.target_format
    if change is None:
        return Coded(weight_format, row.grouping, row.shape)
    dims = cut_dims(change, "weight", output_first=True)
    grouping, shape = _cut_grouping(row.grouping, row.shape, {dim for dim, _ in dims}), cut_shape(row.shape, dims)
    own = Coded(weight_format, grouping, shape)
    if not change.zeros:
        return own
    # Zeros need a code or a mask. Binary with zeros becomes ternary (``zero_format``); shifted grids have no zero.
    name = weight_format.zero_format
    around = own if name is None else Coded(get_format(name), grouping, shape)
    kept = planned_kept(change, shape)
    if kept is None:
        return Masked(around) if around.needs_mask else around
    kept = found or kept
    # If pruned weights are not stored at all, the layer's own format needs no code for zero.
    return pruned_weight(around, own, kept.count, kept.pattern, _ANY_FLOAT)


def float_weight(
    shape: tuple[int, ...], change: ModuleChange | None, float_bytes: int, found: KeptWeights | None = None
) -> Elementwise | Masked | Sparse:
    """How a weight of ``shape`` that is not quantized is stored: densely, or without its zeros if that is smaller."""
    kept = planned_kept(change, shape) if change is not None else None
    if kept is None or len(shape) not in (2, 4):
        return Dense(shape)
    kept = found or kept
    return pruned_weight(Dense(shape), Dense(shape), kept.count, kept.pattern, float_bytes)


def _cut_grouping(grouping: Grouping, shape: tuple[int, ...], dims: set[int]) -> Grouping:
    """The grouping after the cut. Groups of whole rows become one group per row, so that any row can be removed.

    Raises FormatError if a group does not hold whole rows.
    """
    if grouping.kind != "group" or not dims:
        return grouping
    if shape[0] % grouping.groups == 0:
        return Grouping("row")
    rows = f"{shape[0]} rows of shape {shape}"
    raise FormatError(f"{grouping.groups} scale groups do not each hold a whole number of the {rows}, some of which go")


def storage_problems(coded: Mapping[str, CodedRow], changes: Mapping[str, ModuleChange]) -> list[Problem]:
    """Problems that prevent shrinking: a side that two rows cut, or scale groups that a cut would split.

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
            # Report the same message for all modules of a group, whatever their shapes.
            error = first.setdefault(row.group, error)
            remedy = "set a divisor of the rows, or granularity 'row', or leave related_modules out"
            problems.append(Problem(row.grouping_place, f"'{row.module}': {error}; {remedy}"))
    return problems
