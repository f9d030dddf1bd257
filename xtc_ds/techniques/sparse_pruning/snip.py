"""snip_momentum: weights are scored by what the loss would feel if they went, averaged over the steps.

The saliency of a weight is ``|w * dL/d(masked w)|``, the magnitude of the gradient that its mask gets (SNIP, Lee et
al. 2019). It is taken per backward pass, so micro-batches give the same sum whether they are accumulated or
spread over ranks. A pruned weight keeps its value and its saliency, and may come back.
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
    """When the mask is renewed, and how dense it is then: pure functions of the applied optimizer steps.

    From ``offset`` to ``end`` every ``stride`` steps, and at ``end``. A mask needs scores, so nothing is pruned
    before the first applied step.
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
        """Whether the mask is renewed after ``step`` applied steps."""
        if step == self.last:
            return True
        return max(self.offset, 1) <= step < self.last and (step - self.offset) % self.stride == 0

    def dense_ratio_at(self, step: int) -> float:
        """The share that stays at ``step``: the sparsity rises by the cubic law of Zhu and Gupta (2017)."""
        if step >= self.last:
            return self.dense_ratio
        if step <= self.offset:
            return 1.0
        progress = (step - self.offset) / (self.last - self.offset)
        sparsity: float = (1 - self.dense_ratio) * (1 - (1 - progress) ** 3)
        return 1 - sparsity


class SnipMomentum(nn.Module):
    """Running scores of one weight's units.

    The buffer ``scores`` (float32, shape of the pattern's unit scores) is kept in checkpoints. Between two
    synchronisations each rank holds its own; what counts is their mean over the ranks.
    """

    scores: Tensor
    pending: Tensor

    def __init__(self, pattern: Pattern, shape: tuple[int, ...], device: torch.device) -> None:
        super().__init__()
        self.pattern = pattern
        blank = pattern.unit_scores(torch.zeros(shape, device=device))
        self.register_buffer("scores", blank.clone(memory_format=torch.contiguous_format))
        # Saliencies of the step under way.
        self.register_buffer("pending", torch.zeros_like(self.scores), persistent=False)

    def collect(self, saliency: Tensor) -> None:
        """Add the saliencies (the weight's shape) of one backward pass."""
        with torch.no_grad():
            self.pending += self.pattern.unit_scores(saliency.float())

    def take_in(self, loss_scale: float) -> None:
        """End a step that was applied: ``scores = 0.9 * scores + saliency``, the loss scale taken out."""
        with torch.no_grad():
            # What overflowed in a step that was applied nevertheless must not stay in the average for ever.
            self.pending.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
            self.scores.mul_(_MOMENTUM).add_(self.pending, alpha=1 / loss_scale)
        self.discard()

    def discard(self) -> None:
        """Forget the saliencies of a step that was skipped."""
        self.pending.zero_()

    def _apply(self, fn: Any, recurse: bool = True) -> SnipMomentum:
        # A 16-bit model keeps its scores in float32: small saliencies would round away.
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
        # In float32: a product of half precision numbers may overflow where the gradient does not.
        ctx.momentum.collect((grad.float() * w.detach().float()).abs_())
        return grad * mask if ctx.needs_input_grad[0] else None, None, None


def scored_product(w: Tensor, mask: Tensor, momentum: SnipMomentum) -> Tensor:
    """``w * mask``; the backward pass adds the saliencies of ``w`` to ``momentum``, also where ``w`` is frozen."""
    # A leaf that asks for a gradient brings the backward pass here; it gets none.
    leaf = mask.detach().requires_grad_()
    result: Tensor = _ScoredProduct.apply(w, leaf, momentum)  # type: ignore[no-untyped-call]
    return result
