"""The rows of sparse pruning."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xtc_ds.plan.rows import KeptWeights, Kind, ZeroingRow, starred
from xtc_ds.techniques.pruning.top import kept_count
from xtc_ds.techniques.sparse_pruning.config import PruningMethod
from xtc_ds.techniques.sparse_pruning.patterns import Blocks, KeepOf, parse_pattern

__all__ = ["SparseRow"]


@dataclass(frozen=True)
class SparseRow(ZeroingRow):
    """Sparse pruning of one module's weight.

    shape: shape of the weight, outputs first (also for Conv1D); four dimensions for a Conv2d.
    offset, end, stride: the mask becomes active after ``offset`` applied optimizer steps and final after ``end``, and
        is updated every ``stride`` steps in between; ``end`` equals ``offset`` if the mask is not built gradually.
    """

    module: str
    kind: Kind
    group: str
    shape: tuple[int, ...]
    method: PruningMethod
    dense_ratio: float
    block_pattern: str | None
    offset: int
    end: int
    stride: int

    @property
    def leaves_zeros(self) -> bool:
        """True: pruned single weights and blocks are never cut off."""
        return True

    @property
    def pattern(self) -> tuple[int, int] | None:
        """The N:M pattern, if there is one."""
        pattern = parse_pattern(self.block_pattern)
        return (pattern.kept, pattern.of) if isinstance(pattern, KeepOf) else None

    def planned_kept(self, numel: int) -> KeptWeights:
        """What the density keeps, in whole blocks or groups."""
        pattern = parse_pattern(self.block_pattern)
        if isinstance(pattern, KeepOf):
            groups = numel // pattern.of
            pruned_groups = pattern.pruned_groups(self.dense_ratio, groups)
            return KeptWeights(
                numel - pruned_groups * (pattern.of - pattern.kept), self.pattern if pruned_groups == groups else None
            )
        size = pattern.rows * pattern.columns if isinstance(pattern, Blocks) else 1
        return KeptWeights(kept_count(self.dense_ratio, numel // size) * size)

    def shared_treatments(self) -> Iterator[tuple[str, Hashable]]:
        """(module, what must be equal for all modules that share its weight); a learned mask is of one module only."""
        own = self.module if self.method != "l1" else None
        yield self.module, (self.dense_ratio, self.block_pattern, self.offset, own)

    def add_to_report(self, report: dict[str, Any], technique: str, packed_bytes: Mapping[str, int]) -> None:
        """Added as an entry of "pruning"."""
        report["pruning"].append(
            {
                "module": self.module,
                "kind": self.kind,
                "group": self.group,
                "shape": list(self.shape),
                "technique": technique,
                "method": self.method,
                "dense_ratio": self.dense_ratio,
                "block_pattern": self.block_pattern,
                "schedule_offset": self.offset,
                "schedule_offset_end": self.end,
                "schedule_offset_stride": self.stride,
            }
        )

    @property
    def table_title(self) -> str:
        """The table that all pruning techniques share."""
        return "Pruning"

    def table_cells(self) -> Mapping[str, str]:
        """A line of the pruning table."""
        pattern = f" of {self.block_pattern}" if self.block_pattern and "x" in self.block_pattern else ""
        stays = self.block_pattern if self.block_pattern and not pattern else f"{self.dense_ratio:g}{pattern}"
        return {
            "module": starred(self.module),
            "shape": " x ".join(map(str, self.shape)),
            "pruning": f"sparse {self.method}",
            "stays": str(stays),
            "from step": str(self.offset) + (f", full at {self.end}" if self.end > self.offset else ""),
            "shrinks along": "",
        }
