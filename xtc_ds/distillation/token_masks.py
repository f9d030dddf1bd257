"""Masks of the tokens and pairs of tokens that count in a loss, and their number.

Shapes: B batch, L tokens, Q queries, K keys. True where something counts.
"""

from __future__ import annotations

from torch import Tensor

from xtc_ds.errors import DistillationError

__all__ = ["count", "count_pairs", "count_queries", "valid_pairs"]


def valid_pairs(valid_BL: Tensor | None, *allowed_B1QK: Tensor) -> Tensor:
    """(B, 1, Q, K): True where query and key are real tokens and every given mask allows the pair."""
    pairs = allowed_B1QK[0]
    for allowed in allowed_B1QK[1:]:
        if allowed.shape != pairs.shape:
            raise DistillationError(
                f"student and teacher attend over different lengths: {tuple(pairs.shape)} and {tuple(allowed.shape)}"
            )
        pairs = pairs & allowed
    if valid_BL is None:
        return pairs
    return pairs & valid_BL[:, None, :, None] & valid_BL[:, None, None, :]


def count_pairs(valid_B1QK: Tensor) -> Tensor:
    """The number of pairs of tokens that count, at least 1."""
    return count(valid_B1QK)


def count_queries(valid_B1QK: Tensor) -> Tensor:
    """The number of query tokens in any pair that counts, at least 1."""
    return count(valid_B1QK.any(-1))


def count(valid: Tensor) -> Tensor:
    """The number of True values, at least 1, so that a batch without any gives a loss of 0 instead of NaN."""
    return valid.sum().clamp(min=1)
