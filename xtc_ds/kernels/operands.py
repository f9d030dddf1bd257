"""What a bound operation reads from its layer on every call, since the tensors may change between calls.

Shape legend: I = input features, O = output features, G = scale groups; V = rows of a table, D = values in a row,
R = requested rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from xtc_ds.formats import Encoded

__all__ = ["LinearOperands", "LinearProduct", "Lookup", "TableOperands"]


class LinearOperands(Protocol):
    """A linear layer. It is passed to each call and not stored, to avoid a reference cycle of the layer with itself."""

    def packed_operands(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Packed codes uint8 (bytes,), scales (G,), bias (O,) or None, static input (minimum, maximum) or None."""

    def float_operands(self) -> tuple[Tensor | None, Tensor | None]:
        """Bias (O,), None if there is none; static (minimum, maximum) of the input, None if the range is dynamic."""

    def encoded(self, keep: bool = False) -> Encoded:
        """Codes (O, I) with scales (G, 1). keep: cache the int8 codes for the next call."""

    def used_weight(self, dtype: torch.dtype) -> Tensor:
        """The decoded weight (O, I) in ``dtype``."""


class TableOperands(Protocol):
    """A table of V rows of D values."""

    dtype: torch.dtype

    def packed_table(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Packed codes uint8 (bytes,), scales (G,), and zero offsets (G,), None if the format has none."""

    def decoded_rows(self, ids_R: Tensor) -> Tensor:
        """The requested rows decoded, (R, D) in ``dtype``; the other rows are not decoded."""

    def used_weight(self, dtype: torch.dtype) -> Tensor:
        """The whole decoded table (V, D) in ``dtype``."""


#: called with ``x`` (..., I) and the layer; returns (..., O) in the dtype of ``x``
LinearProduct = Callable[[Tensor, LinearOperands], Tensor]

#: called with row indices (...) and the table; returns (..., D) in the table's dtype
Lookup = Callable[[Tensor, TableOperands], Tensor]
