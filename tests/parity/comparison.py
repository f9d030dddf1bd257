"""Compares what the two libraries made of one case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.parity.cases import Case

__all__ = ["disagreements"]

Array = NDArray[Any]
# Of the largest magnitude in a tensor: the order of a float sum is the machine's own.
TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}


def disagreements(case: Case, old: Mapping[str, Array], new: Mapping[str, Array]) -> list[str]:
    """What differs beyond the named differences, a line each.

    Masks and the weights of the cleaned model: bit for bit, but for +0 in the place of -0. Outputs and gradients:
    equal numbers where sums are exact, else close. With ties among scores, how many stay, and their sizes.
    Where a norm makes constants of pruned channels, the output is the one that the old cleaned model gave.
    """
    if old.keys() != new.keys():
        return [
            f"only in the old: {sorted(old.keys() - new.keys())}; only in the new: {sorted(new.keys() - old.keys())}"
        ]
    if case.reads_constants:
        old = {key: old["clean_y"] if key == "y" else value for key, value in old.items() if "gradient/" not in key}
    masks = [key for key in old if key.startswith("mask/")]
    if case.has_ties and not all(np.array_equal(old[key], new[key]) for key in masks):
        return _with_ties(case, old, new)
    found = [_difference(case, key, old[key], new[key]) for key in old]
    return [f"{key}: {what}" for key, what in zip(old, found, strict=True) if what]


def _with_ties(case: Case, old: Mapping[str, Array], new: Mapping[str, Array]) -> list[str]:
    found = []
    for key in old:
        if old[key].shape != new[key].shape:
            found.append(f"{key}: shape {new[key].shape} instead of {old[key].shape}")
        elif key.startswith("mask/") and old[key].sum() != new[key].sum():
            found.append(f"{key}: {new[key].sum()} stay instead of {old[key].sum()}")
    kept = "clean/0.weight"
    sizes = [np.sort(np.abs(side[kept]), axis=None) for side in (old, new)]
    if "sparse_l1" in case.name and not np.array_equal(sizes[0], sizes[1]):
        found.append(f"{kept}: the weights that stay are not the largest")
    return found


def _difference(case: Case, key: str, old: Array, new: Array) -> str:
    if old.shape != new.shape or old.dtype != new.dtype:
        return f"{new.shape} {new.dtype} instead of {old.shape} {old.dtype}"
    if old.tobytes() == new.tobytes():
        return ""
    if key.endswith("x_min_max"):
        # Named: the first batch sets the range exactly.
        return "" if np.allclose(old, new, rtol=3e-7, atol=0) else f"the range is {new} instead of {old}"
    if key.startswith(("mask/", "clean/")) and "running_" not in key and not _inexact_scales(case):
        differs = (old != new) | (np.signbit(old) != np.signbit(new))
        zero = (old == 0) & (new == 0) & ~np.signbit(new)
        return f"{int((differs & ~zero).sum())} of {old.size} values differ" if (differs & ~zero).any() else ""
    if case.sums_are_exact:
        return "" if np.array_equal(old, new) else f"{int((old != new).sum())} of {old.size} values differ"
    scale = float(np.abs(old).max(initial=0))
    error = float(np.abs(old - new).max(initial=0))
    return "" if error <= TOLERANCE[case.dtype] * scale else f"differ by {error:.3g}, the largest is {scale:.3g}"


def _inexact_scales(case: Case) -> bool:
    """Whether the scales themselves are sums whose order counts: 1 and 2 bits of values with long mantissas."""
    groups = case.block.get("weight_quantization", {}).get("different_groups", {}).values()
    return case.values == "normal" and any(group["params"]["target_bits"] < 3 for group in groups)
