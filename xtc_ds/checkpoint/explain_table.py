"""The result of ``explain_folder`` as a table to print."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from xtc_ds.runtime.explain import KernelUse

__all__ = ["explain_table"]


def explain_table(uses: Sequence[KernelUse], runtime: str) -> Table:
    """One row per group of layers that run the same way, with the reasons why faster backends are not used."""
    table = Table(title=f'kernels on this machine, runtime "{runtime}"', title_justify="left")
    for heading in ("layers", "weight", "inputs", "computed by", "faster, but"):
        table.add_column(heading)
    for use in uses:
        count = len(use.layers)
        layers = f"{count} x {use.kind}\n{use.layers[0]}" + (" ..." if count > 1 else "")
        backend = use.backend if use.instructions is None else f"{use.backend} ({use.instructions})"
        reasons = "\n".join(f"{name}: {reason}" for name, reason in use.passed_over)
        table.add_row(layers, use.weight, use.inputs, backend, reasons or "nothing")
    return table
