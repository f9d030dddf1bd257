"""An inspection, formatted as tables to print."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xtc_ds.checkpoint.inspection import Inspection

__all__ = ["inspection_table"]


def inspection_table(report: Inspection) -> RenderableType:
    """The tensors, largest first, then the totals, then the weights that are still float."""
    table = Table(title=str(report.folder), title_justify="left")
    for heading in ("tensor", "format", "shape"):
        table.add_column(heading)
    for heading in ("bits/weight", "bytes", "share"):
        table.add_column(heading, justify="right")
    for entry in report.tensors:
        bits = "" if entry.bits_per_weight is None else f"{entry.bits_per_weight:.2f}"
        shape = " x ".join(map(str, entry.shape)) or "scalar"
        label = entry.format if entry.kept is None else f"{entry.format}, {entry.kept} kept"
        table.add_row(entry.name, label, shape, bits, f"{entry.bytes:,}", _share(entry.bytes, report))
    header = report.file_bytes - sum(entry.bytes for entry in report.tensors)
    files = f"{len(report.files)} files" if len(report.files) > 1 else ""
    table.add_row("(header)", files, "", "", f"{header:,}", _share(header, report))
    total = (
        f"file {report.file_bytes / 1e6:.3f} MB; as float32 {report.dense_bytes / 1e6:.3f} MB: "
        f"{report.dense_bytes / report.file_bytes:.1f}x; least possible (codes alone, and the floats) "
        f"{report.least_bytes / 1e6:.3f} MB (MB = 1e6 bytes; dropped layers not counted)"
    )
    return Group(table, Text(total), *_still_float(report))


def _still_float(report: Inspection) -> list[RenderableType]:
    if not report.leftovers:
        return [Text("no weight matrix is still float")]
    main = report.main_format
    table = Table(title="still float", title_justify="left")
    table.add_column("weight")
    for heading in ("bytes", "share", "saved at int8", *([f"saved at {main}"] if main else [])):
        table.add_column(heading, justify="right")
    for leftover in report.leftovers:
        row = [leftover.name, f"{leftover.bytes:,}", _share(leftover.bytes, report), f"{leftover.saved_int8:,}"]
        table.add_row(*row, *([f"{leftover.saved_main:,}"] if main else []))
    saved = sum(leftover.saved_int8 for leftover in report.leftovers)
    line = f"packing all of them at 8 bits would save {saved / 1e6:.3f} MB"
    if main:
        saved = sum(leftover.saved_main for leftover in report.leftovers)
        line += f", at {main} {saved / 1e6:.3f} MB"
    return [table, Text(line + " (with a 4-byte scale per row)")]


def _share(size: int, report: Inspection) -> str:
    return f"{100 * size / report.file_bytes:.1f} %"
