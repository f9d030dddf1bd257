"""Plan which rows, heads or channels are pruned, and which modules shrink with them."""

from __future__ import annotations

from collections.abc import Sequence

from xtc_ds.errors import Problem
from xtc_ds.layer_kinds import Operation, kind_of, kinds_with, weight_shape
from xtc_ds.plan.matcher import match_groups
from xtc_ds.plan.planner import PlanContext, Planned
from xtc_ds.techniques.pruning.places import key_path
from xtc_ds.techniques.pruning.related import Related, Unit, resolve_related
from xtc_ds.techniques.pruning.structured_config import StructuredGroup
from xtc_ds.techniques.pruning.top import kept_count
from xtc_ds.techniques.pruning.unit_rows import StructuredRow

__all__ = ["plan_units"]


def plan_units(unit: Unit, operation: Operation, context: PlanContext) -> Planned:
    """A row for each layer of ``operation`` that a group matches; ``unit`` is what is pruned in it."""
    groups: tuple[StructuredGroup, ...] = context.section
    kinds = kinds_with(operation)
    owner, problems, warnings = match_groups(groups, context.modules, kinds)
    result = Planned([], problems, warnings)
    for group in groups:
        names = [n for n, of in owner.items() if of is group and kind_of(context.modules[n]) in kinds]
        related = resolve_related(unit, group, names, context.modules)
        result.problems += related.problems
        for name in names:
            _plan_module(unit, name, group, related, context, result)
    return result


def _plan_module(
    unit: Unit, name: str, group: StructuredGroup, related: Related, context: PlanContext, result: Planned
) -> None:
    kind = kind_of(context.modules[name])
    assert kind is not None
    shape = weight_shape(context.modules[name])
    units = shape[0]
    if unit == "head":
        units = group.num_heads  # type: ignore[attr-defined]
        if shape[1] % units:
            place = key_path(context.config, "head_pruning", group, "num_heads")
            divisors = _divisors(shape[1])
            what = f"{units} heads do not divide the {shape[1]} inputs of '{name}'; "
            result.problems.append(Problem(place, f"{what}allowed: the model's number of heads, one of {divisors}"))
            return
    kept = kept_count(group.dense_ratio, units)
    if kept == units and group.dense_ratio < 1:
        part = f"{group.dense_ratio} of {units} {unit}s of '{name}' rounds up to all of them; nothing is pruned"
        result.warnings.append(Problem(f"{group.path}.params.dense_ratio", part))
    rows = related.by_module.get(name, ())
    result.rows.append(
        StructuredRow(name, kind, group.name, unit, shape, group.method, units, kept, group.schedule_offset, rows)
    )


def _divisors(size: int) -> str:
    found: Sequence[int] = [n for n in range(1, size + 1) if size % n == 0]
    return ", ".join(map(str, found[:12])) + (", ..." if len(found) > 12 else "")
