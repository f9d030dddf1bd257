"""Matrix products on codes: several backends with the same numerics, and one place that chooses (``choose``)."""

from __future__ import annotations

from xtc_ds.kernels.integer_product import linear_on_codes

__all__ = ["linear_on_codes"]
