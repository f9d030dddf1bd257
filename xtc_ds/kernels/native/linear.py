"""A linear layer on tiles: the weight in the kernel's own layout, in the fewest bits that hold its codes.

Shape legend: T = tokens, I = input features, O = output features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xtc_ds.formats import WeightFormat
from xtc_ds.kernels.native.library import native_library

__all__ = ["STORED", "InputCodes", "TiledWeight", "quantize_input", "tile_rows", "tile_weight", "tiled_product"]

# Weight code = mul * c + off, with c the stored value. Per number of bits: (mul, off, smallest code, largest code).
STORED = {1: (2, -1, -1, 1), 2: (1, -1, -1, 2), 4: (1, -8, -8, 7), 8: (1, 0, -128, 127)}
_SCALE_PER_TOKEN = -1.0


@dataclass(frozen=True)
class TiledWeight:
    """tiles: uint8, in the layout described in ``layout.h``. sums: int32 (O,), sum of the codes of each output.

    bits: bits per stored code: 1, 2, 4 or 8.
    """

    tiles: Tensor
    sums: Tensor
    inputs: int
    bits: int

    @staticmethod
    def empty(outputs: int, inputs: int, bits: int) -> TiledWeight:
        """Uninitialized tiles of a weight (O, I), to be filled by ``tile_rows``."""
        library = native_library()
        assert library is not None, "callers ask for the library first"
        tiles = torch.empty(library.tiles_bytes(outputs, inputs, bits), dtype=torch.uint8)
        return TiledWeight(tiles, torch.empty(outputs, dtype=torch.int32), inputs, bits)

    @staticmethod
    def bits_of(weight_format: WeightFormat) -> int:
        """The fewest bits that hold the format's codes."""
        if weight_format.name == "binary":
            return 1  # the only format whose codes do not include 0
        low, high = weight_format.code_range
        return next(bits for bits, (_, _, least, most) in STORED.items() if bits > 1 and least <= low and high <= most)


def tile_weight(codes: Tensor, weight_format: WeightFormat) -> TiledWeight:
    """Convert int8 ``codes`` (O, I) of a format whose values are codes times a scale to tiles."""
    outputs, inputs = codes.shape
    weight = TiledWeight.empty(outputs, inputs, TiledWeight.bits_of(weight_format))
    tile_rows(codes, weight, 0)
    return weight


def tile_rows(codes: Tensor, weight: TiledWeight, first: int) -> None:
    """Fill the tiles of the rows from ``first`` (a multiple of 16) on with their int8 ``codes`` (rows, I)."""
    library = native_library()
    assert library is not None, "callers ask for the library first"
    codes, (rows, inputs) = codes.contiguous(), codes.shape
    begin = library.tiles_bytes(first, inputs, weight.bits)
    library.tile(
        codes.data_ptr(), rows, inputs, weight.bits, STORED[weight.bits][1], weight.tiles[begin:].data_ptr(),
        weight.sums[first:].data_ptr(), torch.get_num_threads(),
    )  # fmt: skip


@dataclass(frozen=True)
class InputCodes:
    """Symmetric codes of an input (T, I) in the kernel's layout.

    u8: uint8 (T, padded I), code + 128; padding is 0. sums: int32 (T,), row sums of u8. scale: float32 (T,).
    """

    u8: Tensor
    sums: Tensor
    scale: Tensor
    inputs: int

    def codes(self) -> Tensor:
        """The int8 codes (T, I)."""
        return (self.u8[:, : self.inputs] ^ 128).view(torch.int8)


def quantize_input(x: Tensor, bits: int, scale: float | None = None, path: int | None = None) -> InputCodes:
    """Quantize ``x`` (T, I), float32 or bfloat16 (others are cast to float32), to symmetric codes of ``bits`` bits.

    scale: scale of a static range; None for one dynamic scale per token. path: instruction set (0 portable, 1 AVX2,
    2 AVX-512 VNNI); None for the best one of this processor.
    """
    library = native_library()
    assert library is not None, "callers ask for the library first"
    x = x.contiguous() if x.dtype in (torch.float32, torch.bfloat16) else x.float().contiguous()
    tokens, inputs = x.shape
    codes = InputCodes(
        torch.empty((tokens, (inputs + 31) // 32 * 32), dtype=torch.uint8),
        torch.empty(tokens, dtype=torch.int32),
        torch.empty(tokens, dtype=torch.float32),
        inputs,
    )
    status = library.quantize(
        x.data_ptr(), x.dtype == torch.bfloat16, tokens, inputs, bits, _SCALE_PER_TOKEN if scale is None else scale,
        codes.u8.data_ptr(), codes.sums.data_ptr(), codes.scale.data_ptr(), torch.get_num_threads(),
        library.path if path is None else path,
    )  # fmt: skip
    assert status == 0, "the kernel refused its arguments"
    return codes


def tiled_product(
    x: InputCodes,
    weight: TiledWeight,
    scale: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype = torch.float32,
    path: int | None = None,
) -> Tensor:
    """``x`` times the weight, rescaled, plus bias: (T, O) in ``dtype``.

    scale, bias: float32 (O,). path: see ``quantize_input``.
    """
    library = native_library()
    assert library is not None, "callers ask for the library first"
    tokens, outputs, threads = x.u8.shape[0], weight.sums.numel(), torch.get_num_threads()
    written = dtype if dtype == torch.bfloat16 else torch.float32
    y = torch.empty((tokens, outputs), dtype=written)
    mul, off, *_ = STORED[weight.bits]
    path = library.path if path is None else path
    status = library.product(
        x.u8.data_ptr(), x.sums.data_ptr(), x.scale.data_ptr(), weight.tiles.data_ptr(), weight.sums.data_ptr(),
        scale.data_ptr(), None if bias is None else bias.data_ptr(), y.data_ptr(), written == torch.bfloat16, tokens,
        weight.inputs, outputs, weight.bits, mul, off, threads, path,
    )  # fmt: skip
    assert status == 0, "the kernel refused its arguments"
    return y.to(dtype)
