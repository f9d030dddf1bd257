"""What a bound operation reads of its layer at each call: the tensors may have changed since the last one.

Shape legend: I = input features, O = output features, G = scale groups; V = rows of a table, D = values in a row,
R = rows wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from xtc_ds.formats import Encoded

__all__ = ["LinearOperands", "LinearProduct", "Lookup", "TableOperands"]


class LinearOperands(Protocol):
    """A linear layer. It is handed over at each call and not kept, so that a layer never refers to itself."""

    def packed_operands(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Packed codes uint8 (bytes,), scales (G,), bias (O,), and the static (minimum, maximum) of the input."""

    def float_operands(self) -> tuple[Tensor | None, Tensor | None]:
        """Bias (O,), and the static (minimum, maximum) of the input; None: there is no bias, the range is dynamic."""

    def encoded(self, keep: bool = False) -> Encoded:
        """Codes (O, I) with scales (G, 1). keep: the int8 codes for the next time."""

    def used_weight(self, dtype: torch.dtype) -> Tensor:
        """The weight as its codes stand for it, (O, I)."""


class TableOperands(Protocol):
    """A table of V rows of D values."""

    dtype: torch.dtype

    def packed_table(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Packed codes uint8 (bytes,), scales (G,), and the zeros (G,) of shifted grids."""

    def decoded_rows(self, ids_R: Tensor) -> Tensor:
        """These rows as their codes stand for them, (R, D) in ``dtype``; the others are not decoded."""

    def used_weight(self, dtype: torch.dtype) -> Tensor:
        """The whole table as its codes stand for it, (V, D)."""


#: ``x`` (..., I) and the layer to (..., O) in the dtype of ``x``
LinearProduct = Callable[[Tensor, LinearOperands], Tensor]

#: row numbers (...) and the table to (..., D) in the table's dtype
Lookup = Callable[[Tensor, TableOperands], Tensor]
