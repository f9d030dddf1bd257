"""Products on codes by Triton kernels. This module imports no Triton: ask ``triton_available`` first.

The layer is ``xtc_ds.kernels.triton.packed.TritonProduct``; its parts are in ``.linear``.
"""

from __future__ import annotations

from xtc_ds.kernels.triton.availability import (
    INTERPRETED,
    interpreted,
    load_kernels,
    takes_input,
    takes_weight,
    triton_available,
)

__all__ = ["INTERPRETED", "interpreted", "load_kernels", "takes_input", "takes_weight", "triton_available"]
