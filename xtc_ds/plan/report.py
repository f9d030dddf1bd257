"""The plan as a printable table and as JSON."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xtc_ds.plan.changes import coded_rows, module_changes
from xtc_ds.plan.make import CompressionPlan
from xtc_ds.plan.rows import Row
from xtc_ds.plan.sizes import FLOAT_BYTES
from xtc_ds.plan.stored import stored_weight

__all__ = ["plan_table", "plan_to_dict"]


def plan_to_dict(plan: CompressionPlan) -> dict[str, Any]:
    """The plan as plain data for JSON: the rows of each technique, leftover tensors, total bytes, warnings."""
    report = copy.deepcopy(dict(plan.empty_report))
    packed_bytes = _packed_bytes(plan)
    for technique, rows in plan.rows.items():
        for row in rows:
            row.add_to_report(report, technique, packed_bytes)
    return {
        **report,
        "leftovers": [
            {"tensor": left.name, "shape": list(left.shape), "bytes": left.packed_bytes}
            for left in plan.sizes.leftovers
        ],
        "bytes": {
            "original": plan.sizes.original,
            "student": plan.sizes.student,
            "packed": plan.sizes.packed,
        },
        "compression_ratio": round(plan.sizes.ratio, 3),
        "warnings": [str(warning) for warning in plan.warnings],
    }


def plan_table(plan: CompressionPlan) -> RenderableType:
    """The plan as ``rich`` tables: equal modules of different layers share a line, which shows their total bytes."""
    sizes = plan.sizes
    lines: list[RenderableType] = [_main_table(plan), *_further_tables(plan)]
    lines += [Text(line) for row in plan.all_rows() if (line := row.line())]
    total = f"{_mb(sizes.original)} MB -> {_mb(sizes.packed)} MB, {sizes.ratio:.1f}x smaller (MB = 1e6 bytes)"
    lines.append(Text(total))
    lines += [Text(f"warning: {warning}", style="yellow") for warning in plan.warnings]
    return Group(*lines)


def _main_table(plan: CompressionPlan) -> Table:
    """How the weights and inputs of each module are treated, and the bytes of everything."""
    lines = _by_layer(plan)
    scheduled = any(row.main_cells().get("from step", "0") != "0" for row in plan.all_rows())
    headings = ("shape", "weights", "activations", *(("from step",) if scheduled else ()))
    table = Table(title="Compression plan", title_justify="left")
    table.add_column("module", overflow="fold")
    for heading in headings:
        table.add_column(heading)
    for heading in ("fp32 MB", "packed MB"):
        table.add_column(heading, justify="right")
    coded, packed_bytes = coded_rows(plan.all_rows()), _packed_bytes(plan)
    for name, members, cells in lines:
        label = name if len(members) == 1 else f"{name} (x{len(members)})"
        row, sums = coded.get(members[0]), ["", ""]
        if row is not None:
            sums = [_mb(4 * math.prod(row.shape) * len(members)), _mb(packed_bytes[row.module] * len(members))]
        table.add_row(label, *(cells[heading] for heading in headings), *sums)
    sizes = plan.sizes
    leftover = sum(left.packed_bytes for left in sizes.leftovers)
    blanks = [""] * (len(headings) - 2)
    rest = sizes.student - sizes.student_quantized
    table.add_section()
    table.add_row("everything else", "", plan.config.export.float_dtype, *blanks, _mb(rest), _mb(leftover))
    table.add_row("total", "", "", *blanks, _mb(sizes.student), _mb(sizes.packed), style="bold")
    return table


def _by_layer(plan: CompressionPlan) -> list[tuple[str, list[str], Mapping[str, str]]]:
    """(name, modules, cells) per line; modules that differ only in a layer index share a line, shown as ``*``."""
    by_module: dict[str, list[Row]] = {}
    for row in plan.all_rows():
        if row.main_cells():
            by_module.setdefault(row.module, []).append(row)
    merged: dict[Any, list[str]] = {}
    for module, rows in by_module.items():
        key = (re.sub(r"\.\d+\.", ".*.", module), tuple((type(row), row.treatment()) for row in rows))
        merged.setdefault(key, []).append(module)
    result: list[tuple[str, list[str], Mapping[str, str]]] = []
    for (starred_name, _), members in merged.items():
        # If several rows fill a cell, the first one is shown.
        cells = {"shape": "", "weights": "float", "activations": "float"}
        for row in reversed(by_module[members[0]]):
            cells |= row.main_cells()
        result.append((members[0] if len(members) == 1 else starred_name, members, cells))
    return result


def _further_tables(plan: CompressionPlan) -> list[Table]:
    """One table for each ``table_title`` of the rows; rows with equal cells share a line."""
    tables: dict[str, dict[tuple[tuple[str, str], ...], list[str]]] = {}
    for row in plan.all_rows():
        if (title := row.table_title) is not None:
            name = getattr(row, "module", "")
            tables.setdefault(title, {}).setdefault(tuple(row.table_cells().items()), []).append(name)
    return [_further_table(title, lines) for title, lines in tables.items()]


def _further_table(title: str, lines: Mapping[tuple[tuple[str, str], ...], list[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    headings = [heading for heading, _ in next(iter(lines))]
    for place, heading in enumerate(headings):
        # Module names are in the first column and, for related modules, in the last.
        table.add_column(heading, overflow="fold" if place in (0, len(headings) - 1) else "ellipsis")
    for cells, members in lines.items():
        name, *rest = (cell for _, cell in cells)
        table.add_row((members[0] or name) if len(members) == 1 else f"{name} (x{len(members)})", *rest)
    return table


def _packed_bytes(plan: CompressionPlan) -> dict[str, int]:
    """Map module names to the bytes that their quantized weight takes in the packed file."""
    rows = plan.all_rows()
    changes, float_bytes = module_changes(rows), FLOAT_BYTES[plan.config.export.float_dtype]
    return {
        name: stored_weight(row, changes.get(name)).packed_bytes(float_bytes) for name, row in coded_rows(rows).items()
    }


def _mb(size: float) -> str:
    return f"{size / 1e6:.3f}"
