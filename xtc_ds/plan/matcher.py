"""Match module names: regular expressions as in DeepSpeed, ``"*"`` for all modules, and exclusions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from torch import nn

from xtc_ds.config.pieces import Group
from xtc_ds.errors import Problem
from xtc_ds.layer_kinds import kind_of, kinds_with
from xtc_ds.plan.candidates import refusal
from xtc_ds.plan.names import nearest
from xtc_ds.plan.rows import Kind

__all__ = ["GroupMatch", "match_group", "match_groups"]

G = TypeVar("G", bound=Group)


@dataclass
class GroupMatch:
    """The modules of one group, in module order, with problems and warnings."""

    names: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def match_group(group: Group, modules: dict[str, nn.Module], kinds: tuple[Kind, ...]) -> GroupMatch:
    """Match all modules of the given kinds that one of the group's patterns finds (``re.search``) and none excludes."""
    result = GroupMatch()
    layers = {name: module for name, module in modules.items() if name and _is_layer(name, module, modules, kinds)}
    excluded = _excluded(group, layers, result)
    found: set[str] = set()
    for index, pattern in enumerate(group.modules):
        hits = [name for name in layers if pattern == "*" or re.search(pattern, name)]
        usable = [name for name in hits if name not in excluded]
        if pattern == "*":
            usable = [name for name in usable if kind_of(layers[name]) in kinds or refusal(name, layers[name], modules)]
        if not usable and not group.optional:
            result.problems.append(_no_match(f"{group.path}.modules[{index}]", pattern, hits, modules))
        found.update(usable)
    result.names = [name for name in layers if name in found]
    for name in result.names:
        reason = refusal(name, layers[name], modules)
        kind = kind_of(layers[name])
        if reason:
            result.problems.append(Problem(f"{group.path}.modules", f"'{name}' {reason}"))
        elif kind not in kinds:
            allowed = ", ".join(kinds)
            what = f"'{name}' is {_article(kind or '?')}; this technique takes {allowed}; exclude it"
            result.problems.append(Problem(f"{group.path}.modules", what))
    return result


def match_groups(
    groups: Sequence[G],
    modules: dict[str, nn.Module],
    kinds: tuple[Kind, ...],
) -> tuple[dict[str, G], list[Problem], list[Problem]]:
    """Returns (module name to its group, problems, warnings). A module in two groups is a problem."""
    owner: dict[str, G] = {}
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for group in groups:
        match = match_group(group, modules, kinds)
        problems += match.problems
        warnings += match.warnings
        for name in match.names:
            if name in owner:
                what = f"'{name}' is in group '{owner[name].name}' already; exclude it from one of the two"
                problems.append(Problem(f"{group.path}.modules", what))
            owner.setdefault(name, group)
    order = {name: i for i, name in enumerate(modules)}
    return dict(sorted(owner.items(), key=lambda item: order[item[0]])), problems, warnings


def _is_layer(name: str, module: nn.Module, modules: dict[str, nn.Module], kinds: tuple[Kind, ...]) -> bool:
    kind = kind_of(module)
    # A norm layer is not matched: it only shrinks along with a pruned layer.
    if kind in kinds_with("norm") and kind not in kinds:
        return False
    return kind is not None or refusal(name, module, modules) is not None


def _excluded(group: Group, layers: dict[str, nn.Module], result: GroupMatch) -> set[str]:
    excluded: set[str] = set()
    for index, pattern in enumerate(group.exclude):
        hits = {name for name in layers if re.search(pattern, name)}
        if not hits:
            key = "excluded_modules" if group.path.endswith(".shared_parameters") else "exclude"
            result.warnings.append(Problem(f"{group.path}.{key}[{index}]", f"'{pattern}' excludes nothing"))
        excluded |= hits
    return excluded


def _no_match(path: str, pattern: str, hits: list[str], modules: dict[str, nn.Module]) -> Problem:
    if hits:
        return Problem(path, f"'{pattern}' matches only excluded modules: {', '.join(hits[:3])}")
    others = [n for n, m in modules.items() if n and re.search(pattern, n) and not any(True for _ in m.children())]
    if others:
        kinds = ", ".join(f"'{n}' ({type(modules[n]).__name__})" for n in others[:3])
        return Problem(path, f"'{pattern}' matches nothing that can be compressed, only {kinds}")
    layers = [name for name, module in modules.items() if kind_of(module)]
    hint = nearest(pattern, layers)
    known = f"nearest modules: {hint}" if hint else f"modules are named like: {', '.join(layers[:3])}"
    return Problem(path, f"'{pattern}' matches no module; {known}")


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "AEIOU" else f"a {kind}"
