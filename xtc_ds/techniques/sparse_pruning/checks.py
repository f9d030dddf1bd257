"""The effective keys of a ``sparse_pruning`` group, and the checks between them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xtc_ds.config.json_value import Finding
from xtc_ds.config.locate import show_value
from xtc_ds.config.written import Written

__all__ = ["SNIP", "InForce", "check_group", "in_force", "warn_group"]

SNIP = "snip_momentum"
_SNIP_PATTERN, _SNIP_RATIO = "4x1", 0.1


@dataclass(frozen=True)
class InForce:
    """The effective values of keys whose defaults depend on other keys.

    dense_ratio: None if it is not set. share: N/M of an "N:M" pattern; None for blocks and single weights.
    end: None unless the method is snip_momentum.
    """

    block_pattern: str | None
    share: float | None
    dense_ratio: Any
    end: Any


def in_force(written: Written) -> InForce:
    """The written values, completed by the defaults of the method."""
    snip = written["method"] == SNIP
    pattern = written["block_pattern"]
    if pattern is None and snip:
        pattern = _SNIP_PATTERN
    share = _share(pattern)
    ratio = written.json("dense_ratio")
    if share is not None and (ratio is None or _same(ratio, share)):
        ratio = share
    elif ratio is None and snip:
        ratio = _SNIP_RATIO
    end = written.json("schedule_offset_end")
    return InForce(pattern, share, ratio, (_offset(written) if end is None else end) if snip else None)


def check_group(written: Written) -> Iterator[Finding]:
    """Report contradictions between the effective keys."""
    force = in_force(written)
    pattern, ratio, end, offset = show_value(force.block_pattern), force.dense_ratio, force.end, _offset(written)
    if force.share is not None and force.share > 1:
        what = f"more stay than there are; found {pattern}"
        yield written.place("block_pattern"), f'{what}; allowed: N:M with N up to M, such as "2:4"'
    elif force.share is not None and ratio is not None and not _same(ratio, force.share):
        what = f"does not agree with block_pattern {pattern}; found {show_value(ratio)}"
        yield written.place("dense_ratio"), f"{what}; allowed: {force.share:.6g}, or leave it out"
    if ratio is None:
        what = "missing, and shared_parameters has none; allowed: a number > 0 and <= 1"
        yield (*written.home, "dense_ratio"), what
    if end is not None and end < offset:
        what = f"before schedule_offset; found {end}; allowed: {offset} (schedule_offset) or more"
        yield written.place("schedule_offset_end"), what


def warn_group(written: Written) -> Iterator[Finding]:
    """Warn about keys without effect."""
    force = in_force(written)
    if force.dense_ratio == 1:
        key = "dense_ratio" if force.share is None else "block_pattern"
        yield written.place(key), f"nothing is pruned; found {show_value(written.json(key))}"
    if written["method"] == SNIP:
        return
    for key, idle in (
        ("schedule_offset_end", _offset(written)),
        ("schedule_offset_stride", written.default("schedule_offset_stride")),
    ):
        value = written.json(key)
        # If the shared method is snip_momentum, shared keys are meant for the groups that use it.
        meant = key in written.own or written.shared.get("method") != SNIP
        if meant and value not in (None, idle):
            what = f"has no effect with method {show_value(written['method'])}; found {value}"
            yield written.place(key), f"{what}; leave it out, or use {show_value(SNIP)}"


def _offset(written: Written) -> Any:
    given = written.json("schedule_offset")
    return written.default("schedule_offset") if given is None else given


def _share(pattern: str | None) -> float | None:
    if pattern is None or ":" not in pattern:
        return None
    kept, _, of = pattern.partition(":")
    return int(kept) / int(of)


def _same(ratio: float, share: float) -> bool:
    return math.isclose(ratio, share, abs_tol=1e-6)
