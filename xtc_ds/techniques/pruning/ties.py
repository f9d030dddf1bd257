"""Check that weights shared by several modules are pruned in the same way in all of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from torch import nn

from xtc_ds.errors import Problem

__all__ = ["check_pruning_ties"]


def check_pruning_ties(technique: str, rows: Sequence[Any], modules: dict[str, nn.Module]) -> list[Problem]:
    """Problems of shared weights that ``technique`` prunes, or shrinks, in only some of the modules that use them."""
    treatments: dict[str, list[Hashable]] = {}
    for row in rows:
        for name, treatment in row.shared_treatments():
            treatments.setdefault(name, []).append(treatment)
    users: dict[int, list[str]] = {}
    for name, module in modules.items():
        weight = module._parameters.get("weight")
        if weight is not None:
            users.setdefault(id(weight), []).append(name)
    problems = []
    for names in users.values():
        if len({frozenset(treatments.get(name, ())) for name in names}) > 1:
            what = f"{' and '.join(names)} share one weight but would not be pruned alike; "
            remedy = "exclude them, or prune both by one l1 group without related_modules"
            problems.append(Problem(f"compression_training.{technique}", what + remedy))
    return problems
