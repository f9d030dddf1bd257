"""Products on codes by Triton kernels. This module imports no Triton: ask ``triton_available`` first.

The layer is ``xtc_ds.kernels.triton.packed.TritonProduct``; its parts are in ``.linear``.
"""

from __future__ import annotations

from xtc_ds.kernels.triton.availability import MOST_INPUTS, interpreted, triton_available, triton_missing

__all__ = ["MOST_INPUTS", "interpreted", "triton_available", "triton_missing"]
