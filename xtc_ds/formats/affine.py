"""Formats with a uniform grid: the decoded value is an affine function of the code, so products can run on codes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from xtc_ds.formats.base import Part, WeightFormat

__all__ = ["AffineFormat"]


class AffineFormat(WeightFormat):
    """``w_hat = (code + code_offset) * scale + zero``, with one scale (and zero) per group."""

    affine = True
    #: whether each group has, besides the scale, a zero: the decoded value of code ``-code_offset``
    has_zero: ClassVar[bool] = False
    #: added to a code before scaling; codes of unsigned grids are stored minus this offset, so that they fit int8
    code_offset: int = 0

    @cached_property
    def parts(self) -> tuple[Part, ...]:  # type: ignore[override]
        """``scale``, and ``zero`` if the format has one."""
        return (Part("scale"), Part("zero")) if self.has_zero else (Part("scale"),)

    @property
    def scaled_codes(self) -> bool:
        return self.affine and not self.has_zero and self.code_offset == 0

    def decode(self, codes_GN: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
        codes = codes_GN.to(torch.float32)
        values = (codes + self.code_offset if self.code_offset else codes) * parts["scale"]
        return values + parts["zero"] if self.has_zero else values
