"""The backward pass of a product of codes, in a chosen floating-point type.

The gradients are ``dx = dy w`` and ``dw = dy^T x``, with the dequantized weight and input. If the products run in the
dtype of ``dy``, the codes are decoded to that dtype. If they run in bfloat16 and ``dy`` has more digits, the codes
themselves are multiplied, which bfloat16 represents exactly, and the scales move to ``dy``. Then only ``dy * scale`` is
rounded to bfloat16; sums are accumulated in float32.

Shape legend: T = tokens, I = input features, O = output features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from xtc_ds.kernels.native import CodePlanes, decode_rows, native_library, scaled_gradients

__all__ = ["gradients"]


def gradients(
    grad_TO: Tensor,
    x_codes_TI: Tensor,
    x_scale_T1: Tensor,
    w_codes_OI: Tensor | CodePlanes,
    w_scale_O: Tensor,
    needed: tuple[bool, bool],
    dtype: torch.dtype | None = None,
    columns: bool = False,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the input (T, I) and of the weight (O, I); None where ``needed`` is False.

    dtype: of the products; None: the dtype of ``grad_TO``. The results may have another float dtype.
    columns: the gradient of the weight is laid out in memory as (I, O), like the weight.
    """
    if dtype == torch.bfloat16 and grad_TO.dtype != torch.bfloat16:
        return _of_bfloat16(grad_TO, x_codes_TI, x_scale_T1, w_codes_OI, w_scale_O, needed, columns)
    grad_TO = grad_TO if dtype is None else grad_TO.to(dtype)
    # Decoding the codes is cheaper than scaling the gradient: as many values, but only one byte is read for each.
    grad_x = grad_TO @ _decoded(w_codes_OI, w_scale_O, grad_TO.dtype) if needed[0] else None
    grad_w = _outer(grad_TO, _decoded(x_codes_TI, x_scale_T1, grad_TO.dtype), columns) if needed[1] else None
    return grad_x, grad_w


def _of_bfloat16(
    grad_TO: Tensor,
    x_codes_TI: Tensor,
    x_scale_T1: Tensor,
    w_codes_OI: Tensor | CodePlanes,
    w_scale_O: Tensor,
    needed: tuple[bool, bool],
    columns: bool,
) -> tuple[Tensor | None, Tensor | None]:
    with_x_scale, with_w_scale = _scaled(
        grad_TO.float(), x_scale_T1.flatten() if needed[1] else None, w_scale_O if needed[0] else None
    )
    grad_x = None if with_w_scale is None else _product(with_w_scale, _exact(w_codes_OI))
    grad_w = None if with_x_scale is None else _outer(with_x_scale, _exact(x_codes_TI), columns, _product)
    return grad_x, grad_w


def _outer(
    grad_TO: Tensor, x_TI: Tensor, columns: bool, product: Callable[[Tensor, Tensor], Tensor] = torch.matmul
) -> Tensor:
    # Transposing the gradient afterwards would take almost as long as the product.
    return product(x_TI.t(), grad_TO).t() if columns else product(grad_TO.t(), x_TI)


def _scaled(grad_TO: Tensor, of_row_T: Tensor | None, of_column_O: Tensor | None) -> tuple[Tensor | None, ...]:
    if _native(grad_TO):
        return scaled_gradients(grad_TO, of_row_T, of_column_O)
    by_row = None if of_row_T is None else (grad_TO * of_row_T.unsqueeze(1)).to(torch.bfloat16)
    by_column = None if of_column_O is None else (grad_TO * of_column_O).to(torch.bfloat16)
    return by_row, by_column


def _product(a: Tensor, b: Tensor) -> Tensor:
    # Only cuBLAS can return the float32 sums; other libraries round them to bfloat16 at the end.
    return torch.mm(a, b, out_dtype=torch.float32) if a.device.type == "cuda" else a @ b


def _exact(codes_RN: Tensor | CodePlanes) -> Tensor:
    if isinstance(codes_RN, CodePlanes):
        return codes_RN.decode(None, torch.bfloat16)
    return codes_RN.to(torch.bfloat16)


def _decoded(codes_RN: Tensor | CodePlanes, scale: Tensor, dtype: torch.dtype) -> Tensor:
    if isinstance(codes_RN, CodePlanes):
        written = dtype if dtype == torch.bfloat16 else torch.float32
        return codes_RN.decode(scale.flatten(), written).to(dtype)
    if dtype in (torch.float32, torch.bfloat16) and _native(codes_RN):
        return decode_rows(codes_RN, scale.flatten(), dtype)
    return (codes_RN * scale.reshape(-1, 1)).to(dtype)


def _native(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling() and native_library() is not None
