"""How a quantized weight lies in a file, which pruning may have changed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from xtc_ds.errors import FormatError, Problem
from xtc_ds.formats import Grouping, SparseStorage, WeightFormat, get_format, smallest_storage
from xtc_ds.plan.kept import KeptWeights, planned_kept
from xtc_ds.plan.rows import WeightRow
from xtc_ds.plan.shrink import Pruned, cut_dims, cut_shape

__all__ = ["StoredWeight", "sparse_floats", "storage_problems", "stored_weight"]


@dataclass(frozen=True)
class StoredWeight:
    """A packed weight.

    shape: outputs first. masked: a mask lies beside the codes; where it is 0 the weight is 0.
    sparse: how the weights that are not pruned are stored without the others; None: all of them are.
    """

    format: WeightFormat
    grouping: Grouping
    shape: tuple[int, ...]
    masked: bool
    sparse: SparseStorage | None = None

    def packed_bytes(self, float_bytes: int) -> int:
        """Bytes of codes, scales and mask in a file whose floats take ``float_bytes`` each."""
        numel = math.prod(self.shape)
        floats = self.format.parts_values(self.grouping.count(self.shape))
        return floats * float_bytes + self._weight_bytes(numel)

    def _weight_bytes(self, numel: int) -> int:
        if self.sparse is None:
            return self.format.packed_bytes(numel) + (-(-numel // 8) if self.masked else 0)
        assert self.sparse.format is not None
        return get_format(self.sparse.format).packed_bytes(self.sparse.kept) + self.sparse.mask_bytes(numel)


def stored_weight(row: WeightRow, pruned: Pruned | None, found: KeptWeights | None = None) -> StoredWeight:
    """How the weight of ``row`` is stored. Raises FormatError where its scale groups cannot be cut.

    found: what the mask keeps now; by default what it keeps when pruning is at its end.
    """
    weight_format = row.target_format
    if pruned is None:
        return StoredWeight(weight_format, row.grouping, row.shape, False)
    masked = False
    if pruned.zeroed:
        # Zeros need a code of their own: signs with one are ternary codes, and shifted grids have none.
        masked = weight_format.zero_format is None
        weight_format = weight_format if weight_format.zero_format is None else get_format(weight_format.zero_format)
    dims = cut_dims(pruned, "weight", output_first=True)
    grouping = _cut_grouping(row.grouping, row.shape, {dim for dim, _ in dims})
    stored = StoredWeight(weight_format, grouping, cut_shape(row.shape, dims), masked)
    kept = planned_kept(pruned, stored.shape)
    # The format of the layer needs no zeros where the zeros are not among the stored codes.
    return replace(stored, sparse=_sparse_codes(stored, row.target_format, found or kept) if kept else None)


def sparse_floats(
    shape: tuple[int, ...], pruned: Pruned | None, float_bytes: int, found: KeptWeights | None = None
) -> SparseStorage | None:
    """How a pruned weight of ``shape`` that is not quantized is stored; None: with its zeros."""
    kept = planned_kept(pruned, shape) if pruned is not None else None
    if kept is None or len(shape) not in (2, 4):
        return None
    kept, numel = found or kept, math.prod(shape)
    return smallest_storage(numel, kept.count, kept.pattern, None, kept.count * float_bytes, numel * float_bytes)


def _sparse_codes(stored: StoredWeight, kept_format: WeightFormat, kept: KeptWeights) -> SparseStorage | None:
    numel = math.prod(stored.shape)
    kept_bytes, dense_bytes = kept_format.packed_bytes(kept.count), stored._weight_bytes(numel)
    return smallest_storage(numel, kept.count, kept.pattern, kept_format.name, kept_bytes, dense_bytes)


def _cut_grouping(grouping: Grouping, shape: tuple[int, ...], dims: set[int]) -> Grouping:
    """The groups of what is left. Those of whole rows become one per row, so that any row can go."""
    if grouping.kind != "group" or not dims:
        return grouping
    if shape[0] % grouping.groups == 0:
        return Grouping("row")
    rows = f"{shape[0]} rows of shape {shape}"
    raise FormatError(f"{grouping.groups} scale groups do not each hold a whole number of the {rows}, some of which go")


def storage_problems(weights: Iterable[WeightRow], pruned: Mapping[str, Pruned]) -> list[Problem]:
    """What stands in the way of shrinking: a side that two rules cut, scale groups that a cut would part."""
    problems = []
    for name, what in pruned.items():
        sides = [cut.side for cut in what.cuts]
        if len(sides) > len(set(sides)):
            groups = " and ".join(f"'{cut.row.module}' ({cut.row.technique}_pruning)" for cut in what.cuts)
            message = f"'{name}' would shrink on one side along with {groups}; let one of them be related to it"
            problems.append(Problem("compression_training", message))
    first: dict[str, FormatError] = {}
    for row in weights:
        try:
            stored_weight(row, pruned.get(row.module))
        except FormatError as error:
            # One cause, whatever the shapes.
            error = first.setdefault(row.group, error)
            path = f"compression_training.weight_quantization.different_groups.{row.group}.params.quantize_groups"
            remedy = "set a divisor of the rows, or granularity 'row', or leave related_modules out"
            problems.append(Problem(path, f"'{row.module}': {error}; {remedy}"))
    return problems
