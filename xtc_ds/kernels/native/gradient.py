"""Multiplying a gradient by the scales of codes and rounding it to bfloat16, in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from xtc_ds.kernels.native.library import native_library

__all__ = ["scaled_gradients"]


def scaled_gradients(
    grad_TO: Tensor, of_row_T: Tensor | None, of_column_O: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Returns float32 ``grad_TO`` times the row scales, and ``grad_TO`` times the column scales, as bfloat16 (T, O).

    Each product is rounded once. A result is None if its scales are None.
    """
    library = native_library()
    assert library is not None, "callers ask for the library first"
    grad_TO = grad_TO.contiguous()
    scales = [None if scale is None else scale.contiguous() for scale in (of_row_T, of_column_O)]
    results = [None if scale is None else torch.empty(grad_TO.shape, dtype=torch.bfloat16) for scale in scales]
    library.scale_gradient(
        grad_TO.data_ptr(), *(None if x is None else x.data_ptr() for x in (*scales, *results)), *grad_TO.shape,
        torch.get_num_threads(), library.path,
    )  # fmt: skip
    return results[0], results[1]
