"""Plan which weights are quantized, and how."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from xtc_ds.errors import FormatError, Problem
from xtc_ds.formats import Grouping
from xtc_ds.layer_kinds import kind_of, kinds_with, weight_shape
from xtc_ds.plan.matcher import match_groups
from xtc_ds.plan.planner import PlanContext, Planned
from xtc_ds.techniques.weight_quantization.config import WeightGroup
from xtc_ds.techniques.weight_quantization.rows import WeightRow
from xtc_ds.techniques.weight_quantization.schedule import BitSchedule

__all__ = ["plan_weights"]


def plan_weights(context: PlanContext) -> Planned:
    """A row for each module that a group matches; modules that share a weight must be quantized equally."""
    groups: tuple[WeightGroup, ...] = context.section
    modules = context.modules
    owner, problems, warnings = match_groups(groups, modules, kinds_with("linear", "embedding", "convolution"))
    rows: list[WeightRow] = []
    for name, group in owner.items():
        if (kind := kind_of(modules[name])) is None:
            continue  # reported by the matcher
        shape = weight_shape(modules[name])
        grouping = _grouping(group, kind in kinds_with("embedding"))
        try:
            grouping.count(shape)
        except FormatError as error:
            problems.append(Problem(f"{group.path}.params.quantize_groups", f"'{name}': {error}"))
            continue
        schedule = BitSchedule(group.schedule_offset, group.start_bits, group.target_bits, group.quantization_period)
        symmetric = group.quantization_type == "symmetric"
        row = WeightRow(
            name, kind, group.name, shape, schedule, grouping, symmetric, group.format, group.rounding,
            group.quantize_change_ratio, group.assignment,
        )  # fmt: skip
        rows.append(row)
    return Planned([*rows], problems + _check_ties(rows, modules), warnings)


def _grouping(group: WeightGroup, is_table: bool) -> Grouping:
    # DeepSpeed ignores quantize_groups for embeddings: each token's row has its own scale.
    if group.granularity == "row" or (is_table and group.granularity == "auto"):
        return Grouping("row")
    if group.quantize_groups == 1:
        return Grouping("tensor")
    return Grouping("group", group.quantize_groups)


def _check_ties(rows: Sequence[WeightRow], modules: dict[str, nn.Module]) -> list[Problem]:
    """Problems of shared weights: they can be stored once only if all their modules quantize them equally."""
    by_name = {row.module: row for row in rows}
    users: dict[int, list[str]] = {}
    for name, module in modules.items():
        weight = module._parameters.get("weight")
        if weight is not None and kind_of(module):
            users.setdefault(id(weight), []).append(name)
    problems = []
    for names in users.values():
        treatments = {_treatment(by_name.get(name)) for name in names}
        if len(treatments) > 1:
            what = f"{' and '.join(names)} share one weight but are not quantized alike; "
            remedy = "put both into one group with granularity 'row', or exclude both"
            problems.append(Problem("compression_training.weight_quantization", what + remedy))
    return problems


def _treatment(row: WeightRow | None) -> object:
    if row is None:
        return None
    return (row.schedule, row.grouping, row.symmetric, row.family, row.rounding, row.change_ratio, row.assignment)
