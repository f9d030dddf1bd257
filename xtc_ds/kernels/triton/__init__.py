"""Products on codes with Triton kernels. This module does not import Triton; check ``triton_available`` first.

The layer is ``xtc_ds.kernels.triton.packed.TritonProduct``; the functions that it is built from are in ``.linear``.
"""

from __future__ import annotations

from xtc_ds.kernels.triton.availability import MOST_INPUTS, interpreted, triton_available, triton_missing

__all__ = ["MOST_INPUTS", "interpreted", "triton_available", "triton_missing"]
