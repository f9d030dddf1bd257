"""Unpacking selected rows of a packed table, without unpacking the others.

Shape legend: V = rows of the table, D = codes in a row, R = requested rows, U = units that hold a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xtc_ds.formats import WeightFormat
from xtc_ds.kernels.native.packed_tiles import codes_per_unit

__all__ = ["unpack_rows"]


def unpack_rows(packed: Tensor, weight_format: WeightFormat, width: int, rows_R: Tensor) -> Tensor:
    """int8 codes (R, D) of the rows ``rows_R`` of a table whose rows of ``width`` codes are packed back to back."""
    unit = codes_per_unit(weight_format)
    unit_bytes = weight_format.packed_bytes(unit)
    if width % unit == 0:
        row_bytes = weight_format.packed_bytes(width)
        found = packed.reshape(-1, row_bytes)[rows_R]
        return weight_format.unpack(found.reshape(-1), found.shape[0] * width).reshape(-1, width)
    # A row may begin anywhere in its first unit, so that it can extend over one unit more than its length suggests.
    count = (width + unit - 2) // unit + 1
    first_R1 = (rows_R * width).unsqueeze(1)
    bytes_RU = (first_R1 // unit + torch.arange(count, device=rows_R.device)).unsqueeze(2) * unit_bytes
    bytes_RUB = bytes_RU + torch.arange(unit_bytes, device=rows_R.device)
    # Bytes past the end belong to no row that was asked for.
    found = packed[bytes_RUB.clamp(max=packed.numel() - 1)]
    codes_RC = weight_format.unpack(found.reshape(-1), found.shape[0] * count * unit).reshape(-1, count * unit)
    return codes_RC.gather(1, first_R1 % unit + torch.arange(width, device=rows_R.device))
