"""Codebook quantization: a weight's code is the index of its centroid (k-means; Han et al. 2016, "Deep Compression").

Shape legend: G = groups of weights, each with its own codebook, N = weights in a group, K = centroids in a codebook.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from xtc_ds.errors import FormatError
from xtc_ds.formats.base import Encoded, Part
from xtc_ds.formats.bit_codes import BitCodes
from xtc_ds.formats.grouping import Grouping
from xtc_ds.formats.straight_through import straight_through

__all__ = ["FORMATS", "KMeansFormat", "lloyd"]

# Lloyd's algorithm stops when no weight changes its centroid; this limit is for slow cases.
_MOST_ITERATIONS = 300
# Up to this many comparisons per weight are faster than a binary search.
_FEW = 15


class KMeansFormat(BitCodes):
    """``w_hat = codebook[index]``, ``2**b`` centroids per group. Stored codes are ``index - 2**(b-1)``, which fit int8.

    The initial centroids are evenly spaced between the smallest and the largest weight and are refined by Lloyd's
    algorithm. In training the codebook is learned: the gradient of a centroid is the sum of the gradients of its
    weights (Han et al., eq. 3).
    """

    zero_format = None  # there need not be a centroid at zero

    def __init__(self, bits: int) -> None:
        if not 1 <= bits <= 8:
            raise FormatError(f"codebooks have 1 to 8 bits; found {bits}")
        self.set_bits(bits, f"kmeans{bits}")
        self.parts = (Part("codebook", 2**bits, learned=True),)

    def encode(self, w_GN: Tensor) -> Encoded:
        return self.encode_with(w_GN, {"codebook": lloyd(w_GN, 2**self.int_bits)})

    def encode_with(self, w_GN: Tensor, learned: Mapping[str, Tensor]) -> Encoded:
        """Encode with the nearest centroids; a weight midway between two gets the lower one."""
        sorted_GK, order_GK = learned["codebook"].detach().float().sort(dim=1)
        middles = (sorted_GK[:, 1:] + sorted_GK[:, :-1]) / 2
        place_GN = _count_below(middles, w_GN.detach().float())
        codes_GK = (order_GK + self.code_range[0]).to(torch.int8)
        places = self.places(place_GN + self.code_range[0], len(codes_GK))
        return Encoded(codes_GK.reshape(-1).index_select(0, places).reshape(w_GN.shape), learned, self)

    def decode(self, codes_GN: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
        codebook_GK = parts["codebook"].float()
        return codebook_GK.reshape(-1).index_select(0, self.places(codes_GN, len(codebook_GK))).reshape(codes_GN.shape)

    def places(self, codes_GN: Tensor, codebooks: int) -> Tensor:
        """Indices of the codes' centroids in the flattened codebooks, int32 (G * N,).

        codebooks: number of codebooks; with 1, all groups use it. Selecting from a flat table is several times faster
        than ``gather``, which requires 64-bit indices.
        """
        index_GN = codes_GN.to(torch.int32) - self.code_range[0]
        if codebooks > 1:
            first_G1 = torch.arange(codebooks, dtype=torch.int32, device=codes_GN.device).unsqueeze(1)
            index_GN += first_G1 * 2**self.int_bits
        return index_GN.reshape(-1)

    def fake_quantize(
        self,
        w: Tensor,
        grouping: Grouping,
        noise: Tensor | None = None,
        float_share: float = 0.0,
        learned: Mapping[str, Tensor] | None = None,
        codes: Tensor | None = None,
    ) -> Tensor:
        """Each weight replaced by its centroid: the one given by ``codes``, or the nearest if ``codes`` is None.

        Without ``codes``, ``w`` gets a straight-through gradient too, so that weights can move to other centroids.
        """
        if not learned:
            return straight_through(w, self, grouping, noise, float_share)
        w_GN = grouping.split(w)
        moving = codes is None
        codes_GN = self.encode_with(w_GN, learned).codes if codes is None else grouping.split(codes)
        w_hat_GN: Tensor = _LookUp.apply(w_GN, learned["codebook"], codes_GN, self, moving)  # type: ignore[no-untyped-call]
        w_hat = w_hat_GN.to(w.dtype).reshape(w.shape)
        return w_hat if float_share == 0 else float_share * w + (1 - float_share) * w_hat


class _LookUp(torch.autograd.Function):
    """``codebook[index]`` that saves int8 codes for the backward pass instead of 64-bit indices."""

    @staticmethod
    def forward(
        ctx: Any, w_GN: Tensor, codebook_GK: Tensor, codes_GN: Tensor, weight_format: KMeansFormat, moving: bool
    ) -> Tensor:
        ctx.save_for_backward(codes_GN)
        ctx.format, ctx.codebook = weight_format, (codebook_GK.shape, codebook_GK.dtype)
        ctx.moving, ctx.weight_dtype = moving, w_GN.dtype
        return weight_format.decode(codes_GN, {"codebook": codebook_GK})

    @staticmethod
    def backward(ctx: Any, grad_GN: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:  # type: ignore[override]
        (codes_GN,) = ctx.saved_tensors
        shape, dtype = ctx.codebook
        sums = torch.zeros(shape.numel(), dtype=torch.float32, device=grad_GN.device)
        sums.index_add_(0, ctx.format.places(codes_GN, shape[0]), grad_GN.float().reshape(-1))
        grad_w_GN = None
        if ctx.needs_input_grad[0]:
            # With fixed codes the gradient is zeros and not None: with None, ZeRO-3 would count the weights' last
            # gradient again in each step, also in the global gradient norm.
            grad_w_GN = (
                grad_GN.to(ctx.weight_dtype) if ctx.moving else torch.zeros_like(grad_GN, dtype=ctx.weight_dtype)
            )
        return grad_w_GN, sums.reshape(shape).to(dtype), None, None, None


def _count_below(middles_GK: Tensor, w_GN: Tensor) -> Tensor:
    """Number of the ascending ``middles_GK`` that are below each weight, integers (G, N)."""
    if middles_GK.shape[1] > _FEW:
        return torch.searchsorted(middles_GK.contiguous(), w_GN.contiguous())
    count_GN = torch.zeros(w_GN.shape, dtype=torch.int8, device=w_GN.device)
    for place in range(middles_GK.shape[1]):
        count_GN += w_GN > middles_GK[:, place : place + 1]
    return count_GN


def lloyd(w_GN: Tensor, size: int) -> Tensor:
    """The centroids of one-dimensional k-means (Lloyd's algorithm), float32 (G, size), in ascending order.

    Computed on the CPU in float64, so that every rank and every run gets the same result. A centroid that is not the
    nearest of any weight stays where it is.
    """
    sorted_GN = w_GN.detach().to("cpu", torch.float64).sort(dim=1).values.contiguous()
    # Prefix sums: the sum of any run of sorted weights is the difference of two of them.
    sums_GN = torch.nn.functional.pad(sorted_GN.cumsum(1), (1, 0))
    low_G1, high_G1 = sorted_GN[:, :1], sorted_GN[:, -1:]
    centroids_GK = low_G1 + (high_G1 - low_G1) * torch.linspace(0, 1, size, dtype=torch.float64)
    ends_GK = torch.zeros(len(w_GN), size + 1, dtype=torch.int64)
    ends_GK[:, -1] = w_GN.shape[1]
    for _ in range(_MOST_ITERATIONS):
        before = ends_GK.clone()
        middles = (centroids_GK[:, 1:] + centroids_GK[:, :-1]) / 2
        ends_GK[:, 1:-1] = torch.searchsorted(sorted_GN, middles.contiguous(), right=True)
        counts_GK = ends_GK.diff(dim=1)
        means_GK = sums_GN.gather(1, ends_GK).diff(dim=1) / counts_GK.clamp(min=1)
        centroids_GK = torch.where(counts_GK > 0, means_GK, centroids_GK)
        if torch.equal(before, ends_GK):
            break
    return centroids_GK.to(w_GN.device, torch.float32)


FORMATS = tuple(KMeansFormat(bits) for bits in range(1, 9))
