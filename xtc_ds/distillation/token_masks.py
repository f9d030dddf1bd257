"""Which tokens and pairs of tokens count in a loss, and how many there are.

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
    """How many pairs of tokens count, at least 1."""
    return count(valid_B1QK)


def count_queries(valid_B1QK: Tensor) -> Tensor:
    """How many tokens attend to any that counts, at least 1."""
    return count(valid_B1QK.any(-1))


def count(valid: Tensor) -> Tensor:
    """How many count. At least 1: a batch in which nothing does gives a loss of 0, not NaN."""
    return valid.sum().clamp(min=1)
