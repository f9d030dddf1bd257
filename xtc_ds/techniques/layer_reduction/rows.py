"""The row of a layer reduction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xtc_ds.plan.rows import Row

__all__ = ["ReductionRow"]


@dataclass(frozen=True)
class ReductionRow(Row):
    """Which layers of a stack are kept.

    stack: dotted name of the layer list; depth: number of layers of the source (the teacher, or the model itself).
    kept: indices into the source, one per remaining layer.
    cut: whether layers of the model are dropped (False: the model is already shallow).
    other_modules: modules outside the stack that are copied from the teacher; None: all that fit.
    """

    stack: str
    depth: int
    kept: tuple[int, ...]
    cut: bool
    other_modules: tuple[str, ...] | None

    def kept_layers(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        """The stack and its kept layers."""
        yield self.stack, self.kept

    def add_to_report(self, report: dict[str, Any], technique: str, packed_bytes: Mapping[str, int]) -> None:
        """Added under the technique's name."""
        report[technique] = {"stack": self.stack, "from": self.depth, "kept": list(self.kept)}

    def line(self) -> str:
        """The kept layers."""
        return f"{self.stack}: {len(self.kept)} of {self.depth} layers kept ({', '.join(map(str, self.kept))})"
