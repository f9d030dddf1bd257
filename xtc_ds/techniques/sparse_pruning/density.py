"""Warn if a gradually built mask is shipped before it is final."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from xtc_ds.layers import CompressedLayer
from xtc_ds.techniques.sparse_pruning.transform import SparseMask, gradual_schedule

__all__ = ["warn_of_density"]

logger = logging.getLogger(__name__)

_NAMED = 3


def warn_of_density(layers: Mapping[str, CompressedLayer]) -> None:
    """Log one warning that names the modules which keep more weights than configured.

    With ZeRO-3 all ranks have to call this.
    """
    denser, last = [], 0
    masks = ((name, each) for name, layer in layers.items() for each in layer.weight_transforms)
    for name, transform in masks:
        if not isinstance(transform, SparseMask):
            continue
        mask = transform.shipped(layers[name])
        planned, kept = transform.row.planned_kept(mask.numel()), int(mask.sum())
        if kept > planned.count:
            shares = f"{kept / mask.numel():.3g} of its weights instead of {planned.count / mask.numel():.3g}"
            denser.append(f"'{name}' keeps {shares}")
            last = max(last, gradual_schedule(transform.row).last)
    if denser:
        more = f", ... ({len(denser)} modules)" if len(denser) > _NAMED else f" ({len(denser)} modules)"
        logger.warning(
            "shipped denser than planned: %s%s; the masks of snip_momentum are final after %d applied steps under "
            "xtc_ds.initialize, whose engine renews the masks",
            ", ".join(denser[:_NAMED]),
            more,
            last,
        )
