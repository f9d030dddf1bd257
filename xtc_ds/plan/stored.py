"""How a quantized weight lies in a file, which pruning may have changed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from xtc_ds.errors import FormatError, Problem
from xtc_ds.formats import Grouping, WeightFormat, get_format
from xtc_ds.plan.rows import WeightRow
from xtc_ds.plan.shrink import Pruned, cut_dims, cut_shape

__all__ = ["StoredWeight", "storage_problems", "stored_weight"]


@dataclass(frozen=True)
class StoredWeight:
    """A packed weight.

    shape: outputs first. masked: one bit a weight lies beside the codes; where it is 0 the weight is 0.
    """

    format: WeightFormat
    grouping: Grouping
    shape: tuple[int, ...]
    masked: bool

    def packed_bytes(self, float_bytes: int) -> int:
        """Bytes of codes, scales and mask in a file whose floats take ``float_bytes`` each."""
        numel = math.prod(self.shape)
        scales = self.grouping.count(self.shape) * (2 if self.format.has_zero else 1)
        return self.format.packed_bytes(numel) + scales * float_bytes + (-(-numel // 8) if self.masked else 0)


def stored_weight(row: WeightRow, pruned: Pruned | None) -> StoredWeight:
    """How the weight of ``row`` is stored. Raises FormatError where its scale groups cannot be cut."""
    weight_format = row.target_format
    if pruned is None:
        return StoredWeight(weight_format, row.grouping, row.shape, False)
    masked = False
    if pruned.zeroed:
        # Zeros need a code of their own: signs with one are ternary codes, and shifted grids have none.
        weight_format = get_format("ternary") if weight_format.name == "binary" else weight_format
        masked = weight_format.has_zero
    dims = cut_dims(pruned, "weight", output_first=True)
    grouping = _cut_grouping(row.grouping, row.shape, {dim for dim, _ in dims})
    return StoredWeight(weight_format, grouping, cut_shape(row.shape, dims), masked)


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
    for row in weights:
        try:
            stored_weight(row, pruned.get(row.module))
        except FormatError as error:
            path = f"compression_training.weight_quantization.different_groups.{row.group}.params.quantize_groups"
            remedy = "set a divisor of the rows, or granularity 'row', or leave related_modules out"
            problems.append(Problem(path, f"'{row.module}': {error}; {remedy}"))
    return problems
