"""Plan which weights are pruned individually or in blocks."""

from __future__ import annotations

from xtc_ds.errors import Problem
from xtc_ds.layer_kinds import kind_of, kinds_with, weight_shape
from xtc_ds.plan.matcher import match_groups
from xtc_ds.plan.planner import PlanContext, Planned
from xtc_ds.techniques.pruning.places import key_path
from xtc_ds.techniques.sparse_pruning.config import SparseGroup
from xtc_ds.techniques.sparse_pruning.patterns import parse_pattern
from xtc_ds.techniques.sparse_pruning.rows import SparseRow

__all__ = ["plan_sparse"]


def plan_sparse(context: PlanContext) -> Planned:
    """A row for each module that a group matches; it is a problem if its block pattern does not divide the weight."""
    groups: tuple[SparseGroup, ...] = context.section
    kinds = kinds_with("linear", "convolution")
    owner, problems, warnings = match_groups(groups, context.modules, kinds)
    result = Planned([], problems, warnings)
    for name, group in owner.items():
        kind = kind_of(context.modules[name])
        if kind is None or kind not in kinds:
            continue  # reported by the matcher
        shape = weight_shape(context.modules[name])
        if reason := parse_pattern(group.block_pattern).misfit(shape):
            what = f"'{group.block_pattern}' does not fit '{name}' of shape {shape}: {reason}; "
            remedy = "choose another block_pattern for it, or exclude it"
            place = key_path(context.config, "sparse_pruning", group, "block_pattern")
            result.problems.append(Problem(place, what + remedy))
            continue
        gradual = group.method == "snip_momentum" and group.schedule_offset_end is not None
        end = group.schedule_offset_end if gradual else group.schedule_offset
        assert end is not None
        row = SparseRow(
            name, kind, group.name, shape, group.method, group.dense_ratio, group.block_pattern,
            group.schedule_offset, end, group.schedule_offset_stride,
        )  # fmt: skip
        result.rows.append(row)
    return result
