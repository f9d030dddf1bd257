"""Checks of one group of row, head or channel pruning, and what of a pruning that is off is left to check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xtc_ds.config.locate import Path, show_value
from xtc_ds.config.plain import Finding

__all__ = ["check_structured_group", "warn_structured_group", "without_disabled"]

_PRUNINGS = ("sparse_pruning", "row_pruning", "head_pruning", "channel_pruning")
# Old configs carry these in any pruning that is off, also where they mean nothing.
_OLD_KEYS = frozenset(
    (
        "method",
        "schedule_offset",
        "schedule_offset_end",
        "schedule_offset_stride",
        "block_pattern",
        "dense_ratio",
        "excluded_modules",
        "num_heads",
    )
)


def without_disabled(block: Any) -> Any:
    """``block`` without the old keys and the groups of prunings that are off: nobody reads their values."""
    if not isinstance(block, dict):
        return block
    return {name: _if_on(value) if name in _PRUNINGS else value for name, value in block.items()}


def _if_on(technique: Any) -> Any:
    shared = technique.get("shared_parameters", {}) if isinstance(technique, dict) else None
    if not isinstance(shared, dict) or shared.get("enabled", False) is not False:
        return technique
    kept = {**technique, "shared_parameters": {key: shared[key] for key in shared if key not in _OLD_KEYS}}
    if isinstance(technique.get("different_groups"), dict):
        kept["different_groups"] = {}
    return kept


def check_structured_group(
    technique: str, name: str, group: Mapping[str, Any], shared: Mapping[str, Any]
) -> Iterator[Finding]:
    """Errors of a group of sound shape: lists of unequal length, a missing number of heads."""
    path: Path = (technique, "different_groups", name)
    modules, related = group.get("modules", ["*"]), group.get("related_modules")
    count = 1 if isinstance(modules, str) else len(modules)
    if related is not None and len(related) != count:
        lists = "1 list" if count == 1 else f"{count} lists"
        yield (
            (*path, "related_modules"),
            f"not as long as modules; found {show_value(related)}; allowed: {lists}, one for each entry of modules",
        )
    if technique == "head_pruning" and "num_heads" not in group["params"] and "num_heads" not in shared:
        yield (*path, "params", "num_heads"), "missing, and shared_parameters has none; allowed: an integer >= 1"


def warn_structured_group(technique: str, name: str, params: Mapping[str, Any]) -> Iterator[Finding]:
    """Keys that do nothing."""
    if params["dense_ratio"] == 1:
        yield (technique, "different_groups", name, "params", "dense_ratio"), "nothing is pruned; found 1"
