"""The prunings of a plan as a table for people and as JSON for programs."""

from __future__ import annotations

import re
from typing import Any

from rich.table import Table

from xtc_ds.plan.rows import SparseRow, StructuredRow

__all__ = ["pruning_table", "prunings_to_list"]

Row = SparseRow | StructuredRow


def prunings_to_list(sparse: tuple[SparseRow, ...], structured: tuple[StructuredRow, ...]) -> list[dict[str, Any]]:
    """Plain data, one entry per module and technique."""
    return [*map(_dict, sparse), *map(_dict, structured)]


def pruning_table(sparse: tuple[SparseRow, ...], structured: tuple[StructuredRow, ...]) -> Table:
    """A ``rich`` table in which like modules of all layers share a line."""
    table = Table(title="Pruning", title_justify="left")
    table.add_column("module", overflow="fold")
    for heading in ("shape", "pruning", "stays", "from step"):
        table.add_column(heading)
    table.add_column("shrinks along", overflow="fold")
    merged: dict[tuple[str, ...], list[str]] = {}
    rows: list[Row] = [*sparse, *structured]
    for row in rows:
        merged.setdefault(_cells(row), []).append(row.module)
    for (name, *cells), members in merged.items():
        table.add_row(members[0] if len(members) == 1 else f"{name} (x{len(members)})", *cells)
    return table


def _dict(row: Row) -> dict[str, Any]:
    common = {"module": row.module, "kind": row.kind, "group": row.group, "shape": list(row.shape)}
    if isinstance(row, SparseRow):
        return common | {
            "technique": "sparse_pruning",
            "method": row.method,
            "dense_ratio": row.dense_ratio,
            "block_pattern": row.block_pattern,
            "schedule_offset": row.offset,
            "schedule_offset_end": row.end,
            "schedule_offset_stride": row.stride,
        }
    return common | {
        "technique": f"{row.technique}_pruning",
        "method": row.method,
        "units": row.units,
        "kept": row.kept,
        "schedule_offset": row.offset,
        "related_modules": [{"module": r.module, "kind": r.kind, "side": r.side} for r in row.related],
    }


def _cells(row: Row) -> tuple[str, ...]:
    """module, shape, pruning, stays, from step, shrinks along; layer indices as stars."""
    shape = " x ".join(map(str, row.shape))
    start = str(row.offset)
    if isinstance(row, SparseRow):
        pattern = f" of {row.block_pattern}" if row.block_pattern and "x" in row.block_pattern else ""
        stays = row.block_pattern if row.block_pattern and not pattern else f"{row.dense_ratio:g}{pattern}"
        start += f", full at {row.end}" if row.end > row.offset else ""
        return _starred(row.module), shape, f"sparse {row.method}", str(stays), start, ""
    along = ", ".join(_starred(related.module) for related in row.related) or "nothing: zeros stay"
    stays = f"{row.kept} of {row.units} {row.technique}s"
    return _starred(row.module), shape, f"{row.technique} {row.method}", stays, start, along


def _starred(name: str) -> str:
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)
