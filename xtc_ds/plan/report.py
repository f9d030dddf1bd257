"""The plan as a table for people and as JSON for programs."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xtc_ds.plan.changes import module_changes
from xtc_ds.plan.make import CompressionPlan
from xtc_ds.plan.pruning_report import pruning_table, prunings_to_list
from xtc_ds.plan.rows import ActivationRow, Row, WeightRow
from xtc_ds.plan.sizes import FLOAT_BYTES
from xtc_ds.plan.stored import stored_weight

__all__ = ["plan_table", "plan_to_dict"]


def plan_to_dict(plan: CompressionPlan) -> dict[str, Any]:
    """Plain data: reduction, a row per module and technique, prunings, leftovers, total bytes, warnings."""
    activations = {row.module: row for row in plan.activations}
    rows = []
    for row in plan.weights:
        act = activations.pop(row.module, None)
        rows.append(
            _weight_dict(row, _stored_bytes(row, plan)) | ({"activation": _activation_dict(act)} if act else {})
        )
    rows += [{"module": a.module, "kind": a.kind, "activation": _activation_dict(a)} for a in activations.values()]
    reduction = plan.reduction
    return {
        "layer_reduction": None
        if reduction is None
        else {"stack": reduction.stack, "from": reduction.depth, "kept": list(reduction.kept)},
        "modules": rows,
        "pruning": prunings_to_list(plan.sparse, plan.structured),
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
        **{key: [row.to_dict() for row in rows] for key, rows in _reported(plan).items()},
    }


def plan_table(plan: CompressionPlan) -> RenderableType:
    """A ``rich`` table: like modules of all layers share a line, bytes are of all of them together."""
    scheduled = any(row.schedule.last_change for row in plan.weights) or any(row.offset for row in plan.activations)
    table = Table(title="Compression plan", title_justify="left")
    table.add_column("module", overflow="fold")
    for heading in ("shape", "weights", "activations", *(("from step",) if scheduled else ())):
        table.add_column(heading)
    for heading in ("fp32 MB", "packed MB"):
        table.add_column(heading, justify="right")
    for name, members in _by_layer(plan):
        cells = _cells(name, members, plan)
        table.add_row(*(cells if scheduled else [*cells[:4], *cells[5:]]))
    sizes = plan.sizes
    leftover = sum(left.packed_bytes for left in sizes.leftovers)
    blanks = [""] * (2 if scheduled else 1)
    rest = sizes.student - sizes.student_quantized
    table.add_section()
    table.add_row("everything else", "", plan.config.export.float_dtype, *blanks, _mb(rest), _mb(leftover))
    table.add_row("total", "", "", *blanks, _mb(sizes.student), _mb(sizes.packed), style="bold")
    lines: list[RenderableType] = [table]
    if plan.sparse or plan.structured:
        lines.append(pruning_table(plan.sparse, plan.structured))
    if plan.reduction:
        kept = ", ".join(map(str, plan.reduction.kept))
        layers = f"{plan.reduction.stack}: {len(plan.reduction.kept)} of {plan.reduction.depth} layers kept ({kept})"
        lines.append(Text(layers))
    lines += [type(rows[0]).table(rows) for rows in _reported(plan).values()]
    total = f"{_mb(sizes.original)} MB -> {_mb(sizes.packed)} MB, {sizes.ratio:.1f}x smaller (MB = 1e6 bytes)"
    lines.append(Text(total))
    lines += [Text(f"warning: {warning}", style="yellow") for warning in plan.warnings]
    return Group(*lines)


def _reported(plan: CompressionPlan) -> dict[str, list[Row]]:
    """The rows that have a list and a table of their own, by key."""
    found: dict[str, list[Row]] = {}
    for row in plan.all_rows():
        if row.report_key:
            found.setdefault(row.report_key, []).append(row)
    return found


def _weight_dict(row: WeightRow, bytes_after: int) -> dict[str, Any]:
    return {
        "module": row.module,
        "kind": row.kind,
        "group": row.group,
        "shape": list(row.shape),
        "format": row.target_format.name,
        "bits": row.target_format.bits,
        "start_bits": row.schedule.start_bits,
        "target_bits": row.schedule.target_bits,
        "schedule_offset": row.schedule.offset,
        "quantization_period": row.schedule.period,
        "scale_groups": row.grouping.count(row.shape),
        "rounding": row.rounding,
        "quantize_change_ratio": row.change_ratio,
        "bytes_before": 4 * math.prod(row.shape),
        "bytes_after": bytes_after,
    }


def _stored_bytes(row: WeightRow, plan: CompressionPlan) -> int:
    """Bytes that a weight takes in the packed file, what pruning leaves of it."""
    pruned = module_changes(plan.all_rows()).get(row.module)
    return stored_weight(row, pruned).packed_bytes(FLOAT_BYTES[plan.config.export.float_dtype])


def _activation_dict(row: ActivationRow) -> dict[str, Any]:
    return {
        "group": row.group,
        "bits": row.format.bits,
        "symmetric": row.format.symmetric,
        "range_calibration": row.format.calibration,
        "schedule_offset": row.offset,
    }


def _by_layer(plan: CompressionPlan) -> list[tuple[str, list[str]]]:
    """Rows that differ only in a layer index, as one: ``encoder.layer.[0-2].output.dense``."""
    treatment = {w.module: replace(w, module="", group="") for w in plan.weights}
    act = {a.module: (a.format, a.offset) for a in plan.activations}
    merged: dict[Any, list[str]] = {}
    for module in [*treatment, *(a for a in act if a not in treatment)]:
        key = (re.sub(r"\.\d+\.", ".*.", module), treatment.get(module), act.get(module))
        merged.setdefault(key, []).append(module)
    return [(members[0] if len(members) == 1 else key[0], members) for key, members in merged.items()]


def _cells(name: str, members: list[str], plan: CompressionPlan) -> list[str]:
    """module, shape, weights, activations, from step, fp32 MB, packed MB."""
    weight = next((row for row in plan.weights if row.module == members[0]), None)
    activation = next((row for row in plan.activations if row.module == members[0]), None)
    label = name if len(members) == 1 else f"{name} (x{len(members)})"
    act = f"int{activation.format.bits} {activation.format.calibration}" if activation else "float"
    if weight is None:
        assert activation is not None
        return [label, "", "float", act, str(activation.offset), "", ""]
    schedule = weight.schedule
    falls = schedule.start_bits > schedule.target_bits
    groups = weight.grouping.kind if weight.grouping.kind != "group" else f"{weight.grouping.groups} groups"
    target = (f"{schedule.start_bits:g} bit -> " if falls else "") + f"{weight.target_format.name} / {groups}"
    target += ", stochastic" if weight.rounding == "stochastic" else ""
    target += "" if weight.change_ratio is None else f", mixed by {weight.change_ratio:g} a step"
    start = str(schedule.offset) + (f", full at {schedule.last_change}" if falls else "")
    before = 4 * math.prod(weight.shape) * len(members)
    after = _stored_bytes(weight, plan) * len(members)
    shape = " x ".join(map(str, weight.shape))
    return [label, shape, target, act, start, _mb(before), _mb(after)]


def _mb(size: float) -> str:
    return f"{size / 1e6:.3f}"
