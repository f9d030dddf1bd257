"""snip_momentum: weights are scored by the sensitivity of the loss to their removal, averaged over steps.

The saliency of a weight is ``|w * dL/d(masked w)|``, the magnitude of the gradient of its mask (SNIP, Lee et al. 2019).
It is computed per backward pass, so micro-batches give the same sum whether they are accumulated or distributed over
ranks. A pruned weight keeps its value and its saliency, and may be restored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xtc_ds.techniques.sparse_pruning.patterns import Pattern

__all__ = ["GradualSchedule", "SnipMomentum", "scored_product"]

_MOMENTUM = 0.9


@dataclass(frozen=True)
class GradualSchedule:
    """When the mask is updated, and its density then: pure functions of the number of applied optimizer steps.

    Updates happen every ``stride`` steps from ``offset`` to ``end``, and at ``end``. A mask needs scores, so nothing is
    pruned before the first applied step.
    """

    offset: int
    end: int
    stride: int
    dense_ratio: float

    @property
    def last(self) -> int:
        """The step at which the mask becomes final."""
        return max(self.end, self.offset, 1)

    def is_due(self, step: int) -> bool:
        """Whether the mask is updated after ``step`` applied steps."""
        if step == self.last:
            return True
        return max(self.offset, 1) <= step < self.last and (step - self.offset) % self.stride == 0

    def dense_ratio_at(self, step: int) -> float:
        """The share of weights kept at ``step``: the sparsity rises by the cubic law of Zhu and Gupta (2017)."""
        if step >= self.last:
            return self.dense_ratio
        if step <= self.offset:
            return 1.0
        progress = (step - self.offset) / (self.last - self.offset)
        sparsity: float = (1 - self.dense_ratio) * (1 - (1 - progress) ** 3)
        return 1 - sparsity


class SnipMomentum(nn.Module):
    """Running scores of one weight's units.

    The buffer ``scores`` (float32, shape of the pattern's unit scores) is saved in checkpoints. Between two
    synchronizations each rank has its own scores; masks are made from their mean over the ranks.
    """

    scores: Tensor
    pending: Tensor

    def __init__(self, pattern: Pattern, shape: tuple[int, ...], device: torch.device) -> None:
        super().__init__()
        self.pattern = pattern
        blank = pattern.unit_scores(torch.zeros(shape, device=device))
        self.register_buffer("scores", blank.clone(memory_format=torch.contiguous_format))
        # Saliencies of the current, unfinished step.
        self.register_buffer("pending", torch.zeros_like(self.scores), persistent=False)

    def collect(self, saliency: Tensor) -> None:
        """Add the saliencies (the weight's shape) of one backward pass."""
        with torch.no_grad():
            self.pending += self.pattern.unit_scores(saliency.float())

    def take_in(self, loss_scale: float) -> None:
        """Finish an applied step: ``scores = 0.9 * scores + saliency``, with the loss scale divided out."""
        with torch.no_grad():
            # Overflows in a step that was applied nevertheless must not stay in the running average.
            self.pending.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
            self.scores.mul_(_MOMENTUM).add_(self.pending, alpha=1 / loss_scale)
        self.discard()

    def discard(self) -> None:
        """Reset the saliencies, after a skipped step."""
        self.pending.zero_()

    def _apply(self, fn: Any, recurse: bool = True) -> SnipMomentum:
        # Keep the scores in float32 in a 16-bit model, where small saliencies would be lost to rounding.
        exact = self.scores
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.scores = self.scores.float() if exact.is_meta else exact.to(self.scores.device)
        self.pending = self.pending.float()
        return self


class _ScoredProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor, mask: Tensor, momentum: SnipMomentum) -> Tensor:
        ctx.save_for_backward(w, mask)
        ctx.momentum = momentum
        return w * mask

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:  # type: ignore[override]
        w, mask = ctx.saved_tensors
        # In float32, because a product of half-precision numbers may overflow even if the gradient does not.
        ctx.momentum.collect((grad.float() * w.detach().float()).abs_())
        return grad * mask if ctx.needs_input_grad[0] else None, None, None


def scored_product(w: Tensor, mask: Tensor, momentum: SnipMomentum) -> Tensor:
    """``w * mask``; the backward pass adds the saliencies of ``w`` to ``momentum``, even if ``w`` is frozen."""
    # A leaf that requires a gradient makes autograd call the backward function, which returns none for it.
    leaf = mask.detach().requires_grad_()
    result: Tensor = _ScoredProduct.apply(w, leaf, momentum)  # type: ignore[no-untyped-call]
    return result
