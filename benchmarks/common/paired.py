"""What pairs of neighbouring steps say of two ways to take a step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["paired_ratio"]


def paired_ratio(ours: npt.ArrayLike, plain: npt.ArrayLike) -> tuple[float, float, float]:
    """The median of ``ours / plain`` over the pairs, and its 95 % bootstrap interval (low, high)."""
    ratios = np.asarray(ours, dtype=float) / np.asarray(plain, dtype=float)
    draws = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    return float(np.median(ratios)), float(low), float(high)
