"""The keys of ``sparse_pruning`` as they are in force for a group, and the checks between them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xtc_ds.config.locate import Path, show_value
from xtc_ds.config.model import PruningMethod
from xtc_ds.config.plain import Finding

__all__ = ["SparseParams", "check_sparse_group", "has_implicit_group", "sparse_params", "warn_sparse_group"]

_SNIP = "snip_momentum"


@dataclass(frozen=True)
class SparseParams:
    """What one group gets. ``dense_ratio`` is None where nothing says it; ``end`` is None but for snip_momentum."""

    method: PruningMethod
    dense_ratio: float | None
    block_pattern: str | None
    offset: int
    end: int | None
    stride: int
    excluded_modules: tuple[str, ...]


def sparse_params(params: Mapping[str, Any], shared: Mapping[str, Any]) -> SparseParams:
    """The keys of a group over the shared ones, and the defaults of the method."""
    given = {**shared, **params}
    method = given.get("method", "l1")
    snip = method == _SNIP
    pattern = given.get("block_pattern")
    if pattern is None and snip:
        pattern = "4x1"
    ratio = given.get("dense_ratio")
    share = _share(pattern)
    if share is not None and (ratio is None or _same(ratio, share)):
        ratio = share
    elif ratio is None and snip:
        ratio = 0.1
    offset = given.get("schedule_offset", 1000)
    end = given.get("schedule_offset_end")
    end = (offset if end is None else end) if snip else None
    stride = given.get("schedule_offset_stride", 1)
    return SparseParams(method, ratio, pattern, offset, end, stride, tuple(given.get("excluded_modules", ())))


def has_implicit_group(technique: Mapping[str, Any]) -> bool:
    """Whether the shared keys alone say what is pruned, as old configs with snip_momentum do."""
    shared = technique.get("shared_parameters", {})
    return shared.get("method") == _SNIP and not technique.get("different_groups", {})


def check_sparse_group(name: str | None, params: Mapping[str, Any], shared: Mapping[str, Any]) -> Iterator[Finding]:
    """Errors between the keys in force for group ``name``; None is the group that the shared keys make."""
    found = sparse_params(params, shared)
    share = _share(found.block_pattern)
    if share is not None and share > 1:
        yield (
            _place(name, params, "block_pattern"),
            f"more stay than there are; found {show_value(found.block_pattern)}; "
            'allowed: N:M with N up to M, such as "2:4"',
        )
    elif share is not None and found.dense_ratio is not None and not _same(found.dense_ratio, share):
        yield (
            _place(name, params, "dense_ratio"),
            f"does not agree with block_pattern {show_value(found.block_pattern)}; found "
            f"{show_value(found.dense_ratio)}; allowed: {share:.6g}, or leave it out",
        )
    if found.dense_ratio is None:
        yield (
            (*_params_path(name), "dense_ratio"),
            "missing, and shared_parameters has none; allowed: a number > 0 and <= 1",
        )
    if found.end is not None and found.end < found.offset:
        yield (
            _place(name, params, "schedule_offset_end"),
            f"before schedule_offset; found {found.end}; allowed: {found.offset} (schedule_offset) or more",
        )


def warn_sparse_group(name: str | None, params: Mapping[str, Any], shared: Mapping[str, Any]) -> Iterator[Finding]:
    """Keys in force for group ``name`` that do nothing."""
    found = sparse_params(params, shared)
    if found.dense_ratio == 1:
        key = "dense_ratio" if _share(found.block_pattern) is None else "block_pattern"
        yield _place(name, params, key), f"nothing is pruned; found {show_value(params.get(key, shared.get(key)))}"
    if found.method != _SNIP:
        for key in ("schedule_offset_end", "schedule_offset_stride"):
            value = params.get(key, shared.get(key))
            # Shared keys of a snip_momentum technique are meant for its other groups.
            meant = key in params or shared.get("method") != _SNIP
            if meant and value not in (None, 1 if key == "schedule_offset_stride" else found.offset):
                what = f"has no effect with method {show_value(found.method)}; found {value}"
                yield _place(name, params, key), f"{what}; leave it out, or use {show_value(_SNIP)}"


def _share(pattern: str | None) -> float | None:
    """N/M of an "N:M" pattern; None for blocks and single weights."""
    if pattern is None or ":" not in pattern:
        return None
    kept, _, of = pattern.partition(":")
    return int(kept) / int(of)


def _same(ratio: float, share: float) -> bool:
    return math.isclose(ratio, share, abs_tol=1e-6)


def _params_path(name: str | None) -> Path:
    if name is None:
        return ("sparse_pruning", "shared_parameters")
    return ("sparse_pruning", "different_groups", name, "params")


def _place(name: str | None, params: Mapping[str, Any], key: str) -> Path:
    """Where the value in force stands."""
    return (*_params_path(name if key in params else None), key)
