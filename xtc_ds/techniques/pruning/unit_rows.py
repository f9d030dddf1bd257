"""The plan rows of row, head and channel pruning."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from xtc_ds.layer_kinds import Side
from xtc_ds.plan.rows import Cut, KeptWeights, Kind, ZeroingRow, starred
from xtc_ds.techniques.sparse_pruning.config import PruningMethod

__all__ = ["RelatedRow", "StructuredRow"]


@dataclass(frozen=True)
class RelatedRow:
    """A module that shrinks along with a pruned one.

    side: "in": it loses input features or channels; "out": it loses outputs (with their bias); "features": it has one
        value per channel (BatchNorm2d).
    """

    module: str
    kind: Kind
    side: Literal["in", "out", "features"]


@dataclass(frozen=True)
class StructuredRow(ZeroingRow):
    """Pruning of whole rows (outputs of a Linear), heads (blocks of its inputs) or channels (outputs of a Conv2d).

    units: number of rows, heads or channels; kept: how many of them are kept.
    related: the modules that shrink too when the model is frozen; empty: pruned parts are kept as zeros.
    """

    module: str
    kind: Kind
    group: str
    technique: Literal["row", "head", "channel"]
    shape: tuple[int, ...]
    method: PruningMethod
    units: int
    kept: int
    offset: int
    related: tuple[RelatedRow, ...]

    @property
    def leaves_zeros(self) -> bool:
        """Whether there are no related modules, so that the pruned parts are kept as zeros."""
        return not self.related

    def planned_kept(self, numel: int) -> KeptWeights:
        """The weights of the kept units."""
        return KeptWeights(numel // self.units * self.kept)

    def cuts(self) -> Iterable[tuple[str, Kind, Cut]]:
        """Cuts of the module itself and of its related modules."""
        if not self.related:
            return
        reason = f"'{self.module}' ({self.technique}_pruning)"
        yield self.module, self.kind, self._cut("in" if self.technique == "head" else "out", reason)
        for related in self.related:
            yield related.module, related.kind, self._cut(related.side, reason)

    def _cut(self, side: Side, reason: str) -> Cut:
        return Cut(side, self.units, self.kept, self, reason)

    def shared_treatments(self) -> Iterator[tuple[str, Hashable]]:
        """See ``SparseRow``; if parts are cut off, the treatment is also specific to this module."""
        own = self.module if self.method != "l1" or self.related else None
        yield self.module, (self.kept, self.units, self.offset, own)
        for related in self.related:
            yield related.module, (related.side, self.module)

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
                "units": self.units,
                "kept": self.kept,
                "schedule_offset": self.offset,
                "related_modules": [{"module": r.module, "kind": r.kind, "side": r.side} for r in self.related],
            }
        )

    @property
    def table_title(self) -> str:
        """The table that all pruning techniques share."""
        return "Pruning"

    def table_cells(self) -> Mapping[str, str]:
        """A line of the pruning table."""
        return {
            "module": starred(self.module),
            "shape": " x ".join(map(str, self.shape)),
            "pruning": f"{self.technique} {self.method}",
            "stays": f"{self.kept} of {self.units} {self.technique}s",
            "from step": str(self.offset),
            "shrinks along": ", ".join(starred(related.module) for related in self.related) or "nothing: zeros stay",
        }
