"""Looking up rows of a packed table and decoding them, in one pass.

Shape legend: V = rows of the table, D = values in a row, R = requested rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xtc_ds.formats import WeightFormat
from xtc_ds.formats.integer import IntegerFormat
from xtc_ds.kernels.native.library import native_library

__all__ = ["lookup", "stored_form"]


def lookup(
    ids: Tensor,
    packed: Tensor,
    weight_format: WeightFormat,
    shape: tuple[int, int],
    scale: Tensor,
    zero: Tensor | None,
) -> Tensor | None:
    """Rows ``ids`` (R,) of a table (V, D) of ``packed`` codes, float32 (R, D).

    scale, zero: float32 (V,) or (1,). Returns None if the kernel does not support the tensors, and for invalid ids or
    bytes, for which the caller's own path raises the error.
    """
    if torch.compiler.is_compiling():
        return None
    library, stored = native_library(), stored_form(weight_format)
    tensors = (ids, packed, scale) if zero is None else (ids, packed, scale, zero)
    if (
        library is None
        or stored is None
        or any(x.device.type != "cpu" or not x.is_contiguous() for x in tensors)
        or any(x.dtype != torch.float32 or x.numel() not in (1, shape[0]) for x in tensors[2:])
        or (zero is not None and zero.numel() != scale.numel())
        or ids.dtype != torch.int64
        or packed.numel() != weight_format.packed_bytes(shape[0] * shape[1])
        or type(ids) is not Tensor
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state() is not None
    ):
        return None
    rows = torch.empty((ids.numel(), shape[1]))
    status = library.lookup(
        packed.data_ptr(), *shape, *stored, scale.data_ptr(), None if zero is None else zero.data_ptr(),
        int(scale.numel() > 1), ids.data_ptr(), ids.numel(), rows.data_ptr(), torch.get_num_threads(), library.path,
    )  # fmt: skip
    return None if status else rows


def stored_form(weight_format: WeightFormat) -> tuple[int, int, int] | None:
    """(bits, factor, offset) of a stored value f, with code = factor * f + offset; None if the kernel cannot read it.

    bits is 0 for ternary weights, of which five are stored per byte.
    """
    if not weight_format.affine:
        return None
    if weight_format.name == "binary":
        return 1, 2, -1
    if weight_format.name == "ternary":
        return 0, 1, -1
    if isinstance(weight_format, IntegerFormat) and weight_format.int_bits in (2, 4, 8):
        return weight_format.int_bits, 1, weight_format.code_range[0] + weight_format.code_offset
    return None
