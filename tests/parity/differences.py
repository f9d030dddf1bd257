"""Every place where this project deliberately gives another result than DeepSpeed 0.19.6."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

__all__ = ["DIFFERENCES", "ELEMENTWISE", "PINNED", "Rule", "pins"]

# What differs -> what the old library did. Each has a test that shows both, marked by ``pins``.
DIFFERENCES: dict[str, str] = {
    "sign(0) is +1 for 1 bit": "0, a third level",
    "an all-zero group gives zeros, not NaN": "NaN for every weight of it, but with 1 bit",
    "a constant group on an asymmetric grid keeps its value, not NaN": "NaN for every weight of it",
    "a weight that rounds to zero is +0, not -0": "-0 where the weight was negative",
    "16-bit weights are quantized in float32": "scale, division and product were each rounded to 16 bits",
    "a pruned weight is +0, not -0": "-0 where the weight was negative",
    "the first batch sets a static range exactly": "it was averaged with itself, which may move the last bit",
    "a static range that saw no data is an error": "in evaluation the input of the layer became 0 or NaN",
    "inputs from pruned heads, rows and channels do not widen the range of activations": (
        "they did, so that the cleaned model, which has none of them, computed something else"
    ),
    "related modules read zeros from pruned rows and channels": (
        "they read what a norm or an activation made of the zeros, so that the cleaned model, which has none of it, "
        "computed something else"
    ),
    "scales of 1 and 2 bits are summed more exactly": (
        "norm(p=1), whose sum on a CPU was 4e-4 off for 2.4 million weights in one group"
    ),
    "target_bits above 8 are an error": "taken, and the cleaned weights had as many",
    "sparse pruning by l1 and topk trains": "KeyError at the step of its offset",
    "channel pruning by l1 works": "RuntimeError at the rewriting",
    "head pruning by l1 works": "NotImplementedError at the rewriting",
    "each pair of related modules loses its own rows": "the second pair of a group lost those of the first",
    "start_bits fall to target_bits in the forward too": "target_bits held from the offset on",
    "MoQ has start_bits in the forward of its offset": (
        "with offset 0 the bits fell one step earlier, with a later offset the forward of the offset was not quantized"
    ),
    "MoQ quantizes once per step": "in the first step once more per micro-batch, each time what was quantized already",
    "an embedding has one scale per row in MoQ too": "quantize_groups cut it as any other weight",
    "the real share of mixed quantization stops at 0": "one step below 0 where the ratio does not divide 1",
    "each weight has a real share of its own": "all shared one, back at 1 whenever the bits of any of them fell",
    "redundancy_clean writes the final values of MoQ too": "it left the weights as they were",
    "padding_mode of a Conv2d is kept": "zeros, also where nothing was compressed",
}

# (format, w, old, new; tensors (G, N)) -> the elements that the difference explains. "New" is what the project
# promises there, so that a difference is not only allowed but pinned.
Rule = Callable[[str, Tensor, Tensor, Tensor], Tensor]


def _zero_is_positive(name: str, w: Tensor, old: Tensor, new: Tensor) -> Tensor:
    alpha = old.abs().amax(dim=1, keepdim=True)
    where: Tensor = (w == 0) & (old == 0) & (new == alpha)
    return where if name == "binary" else where & False


def _zeros_stay_zeros(name: str, w: Tensor, old: Tensor, new: Tensor) -> Tensor:
    where: Tensor = (w == 0).all(dim=1, keepdim=True) & old.isnan() & (new == 0)
    return where


def _constant_is_kept(name: str, w: Tensor, old: Tensor, new: Tensor) -> Tensor:
    constant = (w == w[:, :1]).all(dim=1, keepdim=True) & (w != 0)
    where: Tensor = constant & old.isnan() & (new == w)
    return where if name.endswith("_asymmetric") else where & False


def _no_negative_zero(name: str, w: Tensor, old: Tensor, new: Tensor) -> Tensor:
    return (old == 0) & old.signbit() & (new == 0) & ~new.signbit()


ELEMENTWISE: dict[str, Rule] = {
    "sign(0) is +1 for 1 bit": _zero_is_positive,
    "an all-zero group gives zeros, not NaN": _zeros_stay_zeros,
    "a constant group on an asymmetric grid keeps its value, not NaN": _constant_is_kept,
    "a weight that rounds to zero is +0, not -0": _no_negative_zero,
}

F = TypeVar("F", bound=Callable[..., Any])
PINNED: set[str] = set()


def pins(title: str) -> Callable[[F], F]:
    """Mark a test as the one that shows the difference ``title``, the old way and the new."""
    assert title in DIFFERENCES, title
    PINNED.add(title)
    return lambda test: test
