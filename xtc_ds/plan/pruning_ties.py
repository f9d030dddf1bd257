"""Weights that several modules share can be pruned only alike."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from xtc_ds.errors import Problem
from xtc_ds.plan.rows import SparseRow, StructuredRow

__all__ = ["check_pruning_ties"]


def check_pruning_ties(
    sparse: Sequence[SparseRow], structured: Sequence[StructuredRow], modules: dict[str, nn.Module]
) -> list[Problem]:
    """Problems of parameters that are pruned, or shrink, in one of the modules that use them but not in all."""
    treatments = _treatments(sparse, structured)
    users: dict[int, list[str]] = {}
    for name, module in modules.items():
        weight = module._parameters.get("weight")
        if weight is not None:
            users.setdefault(id(weight), []).append(name)
    problems = []
    for names in users.values():
        if len({frozenset(treatments.get(name, ())) for name in names}) > 1:
            technique = next(str(next(iter(treatments[name]))[0]) for name in names if name in treatments)
            what = f"{' and '.join(names)} share one weight but would not be pruned alike; "
            remedy = "exclude them, or prune both by one l1 group without related_modules"
            problems.append(Problem(f"compression_training.{technique}", what + remedy))
    return problems


def _treatments(
    sparse: Sequence[SparseRow], structured: Sequence[StructuredRow]
) -> dict[str, list[tuple[object, ...]]]:
    """Module to what is done to it. Masks that are learned, and parts that go, are each module's own."""
    result: dict[str, list[tuple[object, ...]]] = {}
    for row in sparse:
        own = row.module if row.method != "l1" else None
        how = ("sparse_pruning", row.dense_ratio, row.block_pattern, row.offset, own)
        result.setdefault(row.module, []).append(how)
    for rule in structured:
        own = rule.module if rule.method != "l1" or rule.related else None
        technique = f"{rule.technique}_pruning"
        result.setdefault(rule.module, []).append((technique, rule.kept, rule.units, rule.offset, own))
        for related in rule.related:
            result.setdefault(related.module, []).append((technique, related.side, rule.module))
    return result
