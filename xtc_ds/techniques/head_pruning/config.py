"""The block's ``head_pruning``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xtc_ds.config.json_value import Finding
from xtc_ds.config.keys import Old, key
from xtc_ds.config.migrate.note import Note
from xtc_ds.config.written import Written
from xtc_ds.techniques.pruning.migrate_structured import migrate_method, migrate_related
from xtc_ds.techniques.pruning.structured_config import (
    StructuredGroup,
    StructuredMethod,
    dense_ratio,
    method,
    register_structured,
    related_modules,
)

__all__ = ["HEAD_PRUNING", "HeadGroup"]


@dataclass(frozen=True, kw_only=True)
class HeadGroup(StructuredGroup):
    """One group of ``head_pruning``: whole attention heads are pruned."""

    dense_ratio: float = dense_ratio("heads")
    method: StructuredMethod = method("heads", "topk")
    num_heads: int = key(
        "Number of attention heads; must divide the inputs of the matched modules. Needed here or in each group.",
        examples=(12,),
        minimum=1,
        depends=True,
        old=Old(group_ignored=True),
    )
    related_modules: tuple[tuple[str, ...], ...] | None = related_modules(
        "the matrices of query, key and value, which lose the outputs of the pruned heads. All shrink when the model "
        "is frozen.",
        ["self.query", "self.key", "self.value"],
    )

    @classmethod
    def check(cls, written: Written) -> Iterator[Finding]:
        """Report lists of unequal length and a missing number of heads."""
        yield from super().check(written)
        if written.whole and "num_heads" not in written:
            yield (*written.home, "num_heads"), "missing, and shared_parameters has none; allowed: an integer >= 1"


def _migrate(block: dict[str, Any]) -> list[Note]:
    method = migrate_method(block, "head_pruning", "topk", "NotImplementedError")
    return method + migrate_related(block, "head_pruning")


HEAD_PRUNING = register_structured(
    HeadGroup,
    "heads",
    "Whole attention heads are pruned, seen from the matrix behind the attention (its inputs lie head by head).",
    "attention.output.dense",
    _migrate,
    {"num_heads": 12},
)
