"""Packing of unsigned integers of 1 to 8 bits as a dense bit stream.

The stream is little-endian: bit k of value i is bit ``i * bits + k`` of the stream, and bit j of the
stream is bit ``j % 8`` of byte ``j // 8``. Three values of 3 bits, 5 = 101, 1 = 001, 6 = 110, give::

    stream  1 0 1  1 0 0  0 1 1        (first bit first)
    bytes   10001101 = 0x8D, 00000001  (most significant bit first)
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from xtc_ds.errors import FormatError

__all__ = ["can_look", "check_padding", "pack_bits", "packed_size", "unpack_bits"]

# Number of values processed at a time: a multiple of 8, so that every chunk ends on a byte boundary.
_CHUNK = 1 << 20


def packed_size(numel: int, bits: int) -> int:
    """Number of bytes that ``numel`` values of ``bits`` bits take."""
    return (numel * bits + 7) // 8


def pack_bits(values: Tensor, bits: int) -> Tensor:
    """Pack flat uint8 ``values`` (each below ``2**bits``) into a flat uint8 tensor; padding bits are 0."""
    if bits == 8:
        return values.clone()
    chunks = [_pack_chunk(chunk, bits) for chunk in torch.split(values, _CHUNK)] if values.numel() else []
    return torch.cat(chunks) if chunks else values.new_empty(0)


def unpack_bits(packed: Tensor, bits: int, numel: int) -> Tensor:
    """The inverse of ``pack_bits``. Raises FormatError if a padding bit is set; checked only if ``can_look``."""
    if bits == 8:
        return packed.clone()
    step = _CHUNK * bits // 8
    chunks = [_unpack_chunk(chunk, bits) for chunk in torch.split(packed, step)] if packed.numel() else []
    values = torch.cat(chunks) if chunks else packed.new_empty(0)
    if can_look(packed) and numel * bits % 8:
        check_padding(int(packed[-1]), bits, numel)
    return values[:numel]


def can_look(packed: Tensor) -> bool:
    """Whether packed values may be checked: not while tracing, and not on a GPU, which would have to be synchronized.

    This loses no safety for files, whose contents are checked when they are loaded.
    """
    return packed.numel() > 0 and packed.device.type == "cpu" and not torch.compiler.is_compiling()


def check_padding(last: int, bits: int, numel: int) -> None:
    """Raise FormatError if ``last``, the last byte of ``numel`` packed values, has a padding bit set."""
    if last >> ((numel * bits - 1) % 8 + 1):
        raise FormatError(f"padding bits after {numel} codes of {bits} bits are not zero")


def _pack_chunk(values: Tensor, bits: int) -> Tensor:
    if 8 % bits == 0:
        return _bytes_of(values, bits)
    shifts = torch.arange(bits, device=values.device, dtype=torch.uint8)
    return _bytes_of(((values.unsqueeze(-1) >> shifts) & 1).reshape(-1), 1)


def _bytes_of(values: Tensor, bits: int) -> Tensor:
    """Pack values whose ``bits`` divide 8: each byte contains whole values, the first in its lowest bits."""
    per_byte = 8 // bits
    table = torch.nn.functional.pad(values, (0, -values.numel() % per_byte)).reshape(-1, per_byte)
    packed = table[:, 0].clone()
    for place in range(1, per_byte):
        packed |= table[:, place] << (place * bits)
    return packed


def _unpack_chunk(packed: Tensor, bits: int) -> Tensor:
    if 8 % bits == 0:
        # Each byte contains whole values: one table look-up per byte is many times faster than shifting bits.
        return _values_of_bytes(bits, packed.device).index_select(0, packed.int()).reshape(-1)
    stream = _values_of_bytes(1, packed.device).index_select(0, packed.int()).reshape(-1)
    stream = stream[: stream.numel() // bits * bits].reshape(-1, bits)
    values = stream[:, 0].clone()
    for bit in range(1, bits):
        values |= stream[:, bit] << bit
    return values


def _values_of_bytes(bits: int, device: torch.device) -> Tensor:
    """Table (256, 8 / bits), uint8: row b contains the values of ``bits`` bits in byte b."""
    # Tensors created while tracing must not be cached.
    traced = torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack()
    return (_make_values if traced else _kept_values)(bits, device)


def _make_values(bits: int, device: torch.device) -> Tensor:
    shifts = torch.arange(0, 8, bits)
    values: Tensor = (torch.arange(256).unsqueeze(1) >> shifts) & (2**bits - 1)
    return values.to(torch.uint8).to(device)


_kept_values = cache(_make_values)
