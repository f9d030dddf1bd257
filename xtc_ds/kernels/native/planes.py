"""Weight codes as bit planes: as few bits per code as the format needs, decoded as a whole.

Shape legend: O = output features, I = input features, W = bytes of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xtc_ds.kernels.native.library import native_library

__all__ = ["CodePlanes"]


@dataclass(frozen=True)
class CodePlanes:
    """planes: uint8 (O, W), in the layout of ``planes.h``. inputs: I. bits: bits per code: 1, 2 or 4."""

    planes: Tensor
    inputs: int
    bits: int

    @staticmethod
    def of(codes_OI: Tensor, bits: int) -> CodePlanes:
        """Pack int8 codes: -1 and 1 with 1 bit, -1 to 2 with 2 bits, -8 to 7 with 4 (see ``TiledWeight.bits_of``)."""
        library = native_library()
        assert library is not None, "callers ask for the library first"
        codes_OI, (outputs, inputs) = codes_OI.contiguous(), codes_OI.shape
        planes = torch.empty((outputs, (inputs * bits + 7) // 8), dtype=torch.uint8)
        library.pack_planes(
            codes_OI.data_ptr(), planes.data_ptr(), outputs, inputs, bits, torch.get_num_threads(), library.path
        )
        return CodePlanes(planes, inputs, bits)

    def decode(self, scale_O: Tensor | None, dtype: torch.dtype) -> Tensor:
        """The codes times the float32 scale of their row (None: unscaled), (O, I) in float32 or bfloat16."""
        library = native_library()
        assert library is not None, "callers ask for the library first"
        scale_O = None if scale_O is None else scale_O.contiguous()
        outputs = len(self.planes)
        values = torch.empty((outputs, self.inputs), dtype=dtype)
        library.unpack_planes(
            self.planes.data_ptr(), None if scale_O is None else scale_O.data_ptr(), values.data_ptr(),
            dtype == torch.bfloat16, outputs, self.inputs, self.bits, torch.get_num_threads(), library.path,
        )  # fmt: skip
        return values
