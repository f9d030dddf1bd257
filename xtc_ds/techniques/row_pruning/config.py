"""The block's ``row_pruning``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xtc_ds.config.migrate.note import Note
from xtc_ds.techniques.pruning.migrate_structured import migrate_related
from xtc_ds.techniques.pruning.structured_config import (
    StructuredGroup,
    StructuredMethod,
    dense_ratio,
    method,
    register_structured,
    related_modules,
)

__all__ = ["ROW_PRUNING", "RowGroup"]


@dataclass(frozen=True, kw_only=True)
class RowGroup(StructuredGroup):
    """One group of ``row_pruning``: whole outputs of linear layers go."""

    dense_ratio: float = dense_ratio("rows")
    method: StructuredMethod = method("rows", "l1")
    related_modules: tuple[tuple[str, ...], ...] | None = related_modules(
        "the modules that lose the inputs which the pruned rows fed. Both shrink when the model is frozen.",
        ["layer.\\w+.output.dense"],
    )


def _migrate(block: dict[str, Any]) -> list[Note]:
    before = "the masks of the first pair were used for the later ones too, which broke the cleaned model"
    return migrate_related(block, "row_pruning", several=(before, "each pair shrinks by its own masks"))


ROW_PRUNING = register_structured(
    RowGroup, "rows", "Whole outputs of linear layers are pruned.", "intermediate.dense", _migrate
)
