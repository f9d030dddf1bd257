"""Matrix products on codes, behind one dispatch with the same numerics everywhere."""

from __future__ import annotations

from xtc_ds.kernels.integer_product import linear_on_codes, product_is_integer

__all__ = ["linear_on_codes", "product_is_integer"]
