"""Weights that several modules share can only be pruned in all of them in the same way."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from xtc_ds.errors import Problem
from xtc_ds.plan.rows import Row, SparseRow, StructuredRow

__all__ = ["check_pruning_ties"]


def check_pruning_ties(technique: str, rows: Sequence[Row], modules: dict[str, nn.Module]) -> list[Problem]:
    """Problems of parameters that ``technique`` prunes, or shrinks, in some of the modules that use them only."""
    treatments = _treatments(rows)
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


def _treatments(rows: Sequence[Row]) -> dict[str, list[tuple[object, ...]]]:
    """Module to what is done to it. Learned masks, and parts that are cut off, belong to one module alone."""
    result: dict[str, list[tuple[object, ...]]] = {}
    for row in rows:
        if isinstance(row, SparseRow):
            own = row.module if row.method != "l1" else None
            result.setdefault(row.module, []).append((row.dense_ratio, row.block_pattern, row.offset, own))
        elif isinstance(row, StructuredRow):
            own = row.module if row.method != "l1" or row.related else None
            result.setdefault(row.module, []).append((row.kept, row.units, row.offset, own))
            for related in row.related:
                result.setdefault(related.module, []).append((related.side, row.module))
    return result
