"""Dequantizing codes row by row, in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from xtc_ds.kernels.native.library import native_library

__all__ = ["decode_rows"]


def decode_rows(codes_RN: Tensor, scale_R: Tensor, dtype: torch.dtype) -> Tensor:
    """int8 codes (R, N) times the float32 scale of their row, (R, N) in ``dtype``: float32 or bfloat16."""
    library = native_library()
    assert library is not None, "callers ask for the library first"
    codes_RN, scale_R = codes_RN.contiguous(), scale_R.contiguous()
    values = torch.empty(codes_RN.shape, dtype=dtype)
    library.decode(
        codes_RN.data_ptr(), scale_R.data_ptr(), values.data_ptr(), dtype == torch.bfloat16, *codes_RN.shape,
        torch.get_num_threads(), library.path,
    )  # fmt: skip
    return values
