"""The block's ``channel_pruning``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xtc_ds.config.migrate.note import Note
from xtc_ds.techniques.pruning.migrate_structured import migrate_method, migrate_related
from xtc_ds.techniques.pruning.structured_config import (
    StructuredGroup,
    StructuredMethod,
    dense_ratio,
    method,
    register_structured,
    related_modules,
)

__all__ = ["CHANNEL_PRUNING", "ChannelGroup"]


@dataclass(frozen=True, kw_only=True)
class ChannelGroup(StructuredGroup):
    """One group of ``channel_pruning``: whole output channels of convolutions are pruned."""

    dense_ratio: float = dense_ratio("channels")
    method: StructuredMethod = method("channels", "l1")
    related_modules: tuple[tuple[str, ...], ...] | None = related_modules(
        "the convolutions that lose the pruned channels as inputs, and the batch norms in between. All shrink when the "
        "model is frozen.",
        ["layer1.conv2", "layer1.bn1"],
    )


def _migrate(block: dict[str, Any]) -> list[Note]:
    method = migrate_method(block, "channel_pruning", "l1", "RuntimeError")
    return method + migrate_related(block, "channel_pruning")


CHANNEL_PRUNING = register_structured(
    ChannelGroup, "channels", "Whole outputs of convolutions are pruned.", "intermediate.dense", _migrate
)
