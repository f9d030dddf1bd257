"""Matrix products on quantized codes: several backends with equal results, and one function that picks (``choose``)."""

from __future__ import annotations

from xtc_ds.kernels.integer_product import linear_on_codes

__all__ = ["linear_on_codes"]
