"""A linear layer with tiles, scales and bias bound in advance, so that a call has little overhead.

Shape legend: T = tokens, I = input features, O = output features.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from xtc_ds.errors import FormatError
from xtc_ds.kernels.native.library import native_library
from xtc_ds.kernels.native.linear import STORED, TiledWeight

__all__ = ["TiledLayer", "kept_memory"]

_local = threading.local()


class TiledLayer:
    """``layer(x)`` quantizes ``x`` (T, I) and multiplies it with a tiled weight.

    scale: float32 (O,). bias: (O,) or None. x_bits: bits of the symmetric input codes. x_scale: scale of a static
        input range; None for one dynamic scale per token.
    """

    def __init__(
        self, weight: TiledWeight, scale: Tensor, bias: Tensor | None, x_bits: int, x_scale: float | None = None
    ) -> None:
        library = native_library()
        assert library is not None, "callers ask for the library first"
        self._library = library
        self.weight, self.x_bits, self.x_scale = weight, x_bits, x_scale
        self.scale = scale.detach().float().contiguous()
        self.bias = None if bias is None else bias.detach().float().contiguous()
        self.outputs = weight.sums.numel()
        if self.scale.numel() != self.outputs or (self.bias is not None and self.bias.numel() != self.outputs):
            raise FormatError(f"{self.outputs} outputs need as many scales and biases")
        mul, off, *_ = STORED[weight.bits]
        self._before = (x_bits, -1.0 if x_scale is None else x_scale)
        self._pointers = (
            weight.tiles.data_ptr(),
            weight.sums.data_ptr(),
            self.scale.data_ptr(),
            None if self.bias is None else self.bias.data_ptr(),
        )
        self._scratch_size = (-1, 0)  # (number of tokens, bytes)
        self._after = (weight.inputs, self.outputs, weight.bits, mul, off)

    def __call__(self, x: Tensor) -> Tensor:
        """Map ``x`` (T, I), float32 or bfloat16, to (T, O) of the same dtype."""
        tokens = x.shape[0]
        x = x if x.is_contiguous() else x.contiguous()
        y = torch.empty((tokens, self.outputs), dtype=x.dtype)
        status = self._library.linear(
            x.data_ptr(), *self._before, *self._pointers, y.data_ptr(), x.dtype == torch.bfloat16, tokens, *self._after,
            self._scratch(tokens), torch.get_num_threads(), self._library.path,
        )  # fmt: skip
        assert status == 0, "the kernel refused its arguments"
        return y

    def _scratch(self, tokens: int) -> int:
        wanted, size = self._scratch_size
        if wanted != tokens:
            size = self._library.linear_scratch_bytes(tokens, self.weight.inputs)
            self._scratch_size = tokens, size
        return kept_memory(size)


def kept_memory(size: int) -> int:
    """Address of a scratch buffer of at least ``size`` bytes that is reused between calls, one per Python thread."""
    found: tuple[int, int, Tensor] | None = getattr(_local, "memory", None)
    if found is None or found[0] < size:
        memory = torch.empty(size, dtype=torch.uint8)
        found = _local.memory = (size, memory.data_ptr(), memory)
    return found[1]
