"""Saying so where a mask that is built up step by step is shipped before it is final."""

from __future__ import annotations

import logging

from xtc_ds.freezing.pruned_parts import PrunedParts
from xtc_ds.layers.masks import gradual_schedule
from xtc_ds.plan.rows import SparseRow

__all__ = ["warn_of_density"]

logger = logging.getLogger(__name__)

_NAMED = 3


def warn_of_density(parts: PrunedParts) -> None:
    """Log one warning that names the modules which keep more weights than their config says."""
    denser, last = [], 0
    for name, mask in parts.sparse.items():
        rule = next(rule for rule in parts.layers[name].pruning_rules if isinstance(rule, SparseRow))
        planned = rule.planned_kept(mask.numel())
        kept = int(mask.sum())
        if kept > planned.count:
            shares = f"{kept / mask.numel():.3g} of its weights instead of {planned.count / mask.numel():.3g}"
            denser.append(f"'{name}' keeps {shares}")
            last = max(last, gradual_schedule(rule).last)
    if denser:
        more = f", ... ({len(denser)} modules)" if len(denser) > _NAMED else f" ({len(denser)} modules)"
        logger.warning(
            "shipped denser than planned: %s%s; the masks of snip_momentum are final after %d applied steps under "
            "xtc_ds.initialize, whose engine renews the masks",
            ", ".join(denser[:_NAMED]),
            more,
            last,
        )
