"""Random numbers for stochastic rounding, a pure function of (module, step, position in the weight).

No generator state is used: all ranks, recomputed forward passes (activation checkpointing), resumed runs and look-ups
of a few table rows get the same number at the same position.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

__all__ = ["rounding_seed", "uniform_noise"]

_MULTIPLIERS = (0x7FEB352D, -0x7B935975)  # 0x7feb352d and 0x846ca68b as signed 32-bit integers


def rounding_seed(module: str, step: int) -> int:
    """The seed for one module in one optimizer step (skipped steps do not count), an unsigned 64-bit integer."""
    return int.from_bytes(hashlib.blake2b(f"{module}\0{step}".encode(), digest_size=8).digest(), "little")


def uniform_noise(seed: int, rows_R: Tensor, columns: int) -> Tensor:
    """Float32 (R, columns), uniform in [0, 1) in steps of 2**-24, on the device of ``rows_R``.

    rows_R: the indices of the rows (int64); a row's numbers depend only on ``seed`` and its index.
    """
    low, high = seed & 0xFFFFFFFF, seed >> 32
    row_keys_R = _hash(_hash(rows_R.to(torch.int32) ^ _signed(low)) ^ _signed(high))
    columns_C = torch.arange(columns, dtype=torch.int32, device=rows_R.device)
    bits_RC = _hash(_hash(columns_C) ^ row_keys_R[:, None])
    return _shift(bits_RC, 8).to(torch.float32).mul_(2.0**-24)


def _hash(x: Tensor) -> Tensor:
    """A bijection of 32-bit integers that mixes all bits (xor, shift, multiply; C. Wellons' lowbias32)."""
    for shift, multiplier in zip((16, 15), _MULTIPLIERS, strict=True):
        x = (x ^ _shift(x, shift)).mul_(multiplier)
    return x.bitwise_xor_(_shift(x, 16))


def _shift(x: Tensor, places: int) -> Tensor:
    # Right shifts of signed integers are arithmetic; the mask makes them logical.
    return (x >> places).bitwise_and_((1 << (32 - places)) - 1)


def _signed(x: int) -> int:
    return x - 2**32 if x >= 2**31 else x
