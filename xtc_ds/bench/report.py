"""Formats the results as a table and as JSON-compatible data. 1 MB = 1e6 bytes."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xtc_ds.bench.competition import Result
from xtc_ds.bench.engines import ENGINES

__all__ = ["COLUMNS", "best_exact", "bench_table", "rows", "to_dict"]

COLUMNS = ("engine", "ms", "middle half", "x torch fp32", "x best fp32", "memory, MB", "file, MB")


def best_exact(results: list[Result]) -> Result | None:
    """The result of the fastest engine that computes in float32; None if there is none."""
    exact = [result for result in results if ENGINES[result.engine].exact]
    return min(exact, key=lambda result: result.median, default=None)


def rows(results: list[Result]) -> list[tuple[str, ...]]:
    """One table row, as ``COLUMNS``, for each result; all results must have the same batch size."""
    best = best_exact(results)
    torch_fp32 = next((result for result in results if result.engine == "torch-fp32"), None)
    return [
        (
            ENGINES[result.engine].label,
            f"{result.median:.1f}",
            f"{result.spread[0]:.1f} to {result.spread[1]:.1f}",
            "" if torch_fp32 is None else f"{result.ratio(torch_fp32):.2f}",
            "" if best is None else f"{result.ratio(best):.2f}",
            f"{result.memory / 1e6:.0f}",
            f"{result.file / 1e6:.1f}",
        )
        for result in results
    ]


def bench_table(results: list[Result], missing: dict[str, tuple[str, ...]]) -> RenderableType:
    """One table for each batch size, followed by the engines that are not installed."""
    parts: list[RenderableType] = []
    for batch in dict.fromkeys(result.batch for result in results):
        chosen = [result for result in results if result.batch == batch]
        table = Table(title=f"batch {batch} x {chosen[0].tokens} tokens", title_justify="left")
        table.add_column(COLUMNS[0])
        for heading in COLUMNS[1:]:
            table.add_column(heading, justify="right")
        for row in rows(chosen):
            table.add_row(*row)
        parts.append(table)
    parts += [
        Text(f"{ENGINES[name].label}: not installed: {', '.join(packages)}") for name, packages in missing.items()
    ]
    return Group(*parts)


def to_dict(results: list[Result], missing: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """The results as JSON-compatible data."""
    entries = []
    for result in results:
        best = best_exact([other for other in results if other.batch == result.batch])
        entries.append(
            {
                "engine": result.engine,
                "label": ENGINES[result.engine].label,
                "batch": result.batch,
                "tokens": result.tokens,
                "ms": round(result.median, 3),
                "ms_quartiles": [round(value, 3) for value in result.spread],
                "times_best_fp32": None if best is None else round(result.ratio(best), 3),
                "memory_bytes": result.memory,
                "file_bytes": result.file,
            }
        )
    return {"results": entries, "not_installed": {name: list(packages) for name, packages in missing.items()}}
