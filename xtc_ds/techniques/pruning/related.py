"""Resolve ``related_modules``: pair each pruned module with the modules that shrink with it.

Names do not show which modules read another module's output. The related modules are assumed to be all that do (for
heads: all whose outputs it reads). If any other module reads the same output, the shrunk model cannot run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from xtc_ds.errors import Problem
from xtc_ds.layer_kinds import Operation, Side, kind_of, kinds_with, layer_kind_of
from xtc_ds.plan.candidates import refusal
from xtc_ds.plan.names import nearest
from xtc_ds.techniques.pruning.structured_config import StructuredGroup
from xtc_ds.techniques.pruning.unit_rows import RelatedRow

__all__ = ["Related", "Unit", "resolve_related"]

# The unit that is pruned as a whole.
Unit = Literal["row", "head", "channel"]

# Kinds of layers that can shrink along with a pruned one.
_OPERATIONS: dict[Unit, tuple[Operation, ...]] = {
    "row": ("linear",),
    "head": ("linear",),
    "channel": ("convolution", "norm", "linear"),
}


@dataclass
class Related:
    """The modules that shrink with each pruned module, and the problems found."""

    by_module: dict[str, tuple[RelatedRow, ...]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def resolve_related(unit: Unit, group: StructuredGroup, names: Sequence[str], modules: dict[str, nn.Module]) -> Related:
    """Pair the modules matched by each pattern of the group with those matched by its related patterns.

    names: the group's modules, in module order. Each related pattern must match as many modules as the pattern it
        belongs to; modules that the group excludes are not matched.
    Each module is paired with the related one whose name shares the most leading parts with its own, if that is a
    one-to-one pairing; otherwise they are paired in order.
    """
    result = Related()
    if group.related_modules is None:
        return result
    if len(group.related_modules) != len(group.modules):
        counts = f"{len(group.related_modules)} lists for {len(group.modules)} patterns of modules"
        what = f"{counts}; give one list for each"
        result.problems.append(Problem(f"{group.path}.related_modules", what))
        return result
    taken: dict[str, int] = {}
    for index, (pattern, wanted) in enumerate(zip(group.modules, group.related_modules, strict=True)):
        members = [name for name in names if pattern == "*" or re.search(pattern, name)]
        twice = [name for name in members if taken.setdefault(name, index) != index]
        if twice:
            what = f"'{twice[0]}' is found by modules[{taken[twice[0]]}] already, so that it would be paired twice"
            result.problems.append(Problem(f"{group.path}.modules[{index}]", f"{what}; narrow one of the patterns"))
            continue
        if not members:
            continue  # optional, or reported by the matcher
        for place, related in enumerate(wanted):
            path = f"{group.path}.related_modules[{index}][{place}]"
            _pair_pattern(unit, group, path, related, members, modules, result)
    return result


def _pair_pattern(
    unit: Unit,
    group: StructuredGroup,
    path: str,
    pattern: str,
    members: list[str],
    modules: dict[str, nn.Module],
    result: Related,
) -> None:
    found = _matches(unit, group, pattern, modules)
    for name in found:
        if reason := refusal(name, modules[name], modules):
            result.problems.append(Problem(path, f"'{name}' {reason}"))
    if len(found) != len(members):
        result.problems.append(Problem(path, _count_message(pattern, found, members, modules)))
        return
    for name, partner in zip(members, _in_pairs(members, found), strict=True):
        kind = kind_of(modules[partner])
        if kind is None:
            continue  # refused above
        if problem := _misfit(unit, name, partner, modules):
            remedy = "name the module that does, or leave related_modules out and keep the pruned parts as zeros"
            result.problems.append(Problem(path, f"{problem}; {remedy}"))
            continue
        side: Side = "features" if kind in kinds_with("norm") else "out" if unit == "head" else "in"
        result.by_module[name] = (*result.by_module.get(name, ()), RelatedRow(partner, kind, side))


def _matches(unit: Unit, group: StructuredGroup, pattern: str, modules: dict[str, nn.Module]) -> list[str]:
    kinds = kinds_with(*_OPERATIONS[unit])
    hits = [name for name, m in modules.items() if name and (kind_of(m) in kinds or refusal(name, m, modules))]
    hits = [name for name in hits if re.search(pattern, name)]
    return [name for name in hits if not any(re.search(exclude, name) for exclude in group.exclude)]


def _count_message(pattern: str, found: list[str], members: list[str], modules: dict[str, nn.Module]) -> str:
    if not found:
        hint = nearest(pattern, [name for name, module in modules.items() if kind_of(module)])
        return f"'{pattern}' matches no module that could shrink" + (f"; nearest modules: {hint}" if hint else "")
    counts = f"'{pattern}' matches {len(found)} modules, but {len(members)} modules are pruned"
    listing = f"({', '.join(found[:4])}{', ...' if len(found) > 4 else ''})"
    return f"{counts}; write a pattern that finds one for each {listing}"


def _in_pairs(members: list[str], found: list[str]) -> list[str]:
    """The partner in ``found`` of each of ``members``; both lists have equal length."""
    partners = []
    for name in members:
        shared = [_shared_parts(name, other) for other in found]
        if shared.count(max(shared)) > 1:
            return found
        partners.append(found[shared.index(max(shared))])
    return partners if len(set(partners)) == len(partners) else found


def _shared_parts(name: str, other: str) -> int:
    count = 0
    for left, right in zip(name.split("."), other.split("."), strict=False):
        if left != right:
            break
        count += 1
    return count


def _misfit(unit: Unit, name: str, partner: str, modules: dict[str, nn.Module]) -> str | None:
    """The reason why ``partner`` cannot shrink with ``name``; None if it can."""
    if name == partner:
        return f"'{name}' is related to itself"
    for each in (name, partner):
        if getattr(modules[each], "groups", 1) != 1:
            return f"'{each}' is a grouped convolution, whose channels cannot go one by one"
    outputs, inputs = _sides(modules[name])
    if unit == "head":
        size = _sides(modules[partner])[0]
        return None if size == inputs else f"'{partner}' has {size} outputs, but '{name}' has {inputs} inputs"
    size = _sides(modules[partner])[1]
    side = "features" if kind_of(modules[partner]) in kinds_with("norm") else "inputs"
    return None if size == outputs else f"'{partner}' has {size} {side}, but '{name}' has {outputs} outputs"


def _sides(module: nn.Module) -> tuple[int, int]:
    """(outputs, inputs) of a module; for a norm both are its number of features."""
    kind = layer_kind_of(module)
    assert kind is not None
    shape = kind.shape_of(module)
    return shape[0], shape[0] if kind.operation == "norm" else shape[1]
