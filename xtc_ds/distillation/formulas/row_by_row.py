"""Compute a loss for some rows of a batch at a time, saving only the gradients for the backward pass.

Attention losses need many tensors of size heads x queries x keys, which for a whole batch would take a large part of
a training step's memory. So the gradient is computed together with the loss, and intermediate tensors are freed.

Shapes: B batch; other dimensions are up to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["sum_over_rows"]

PartOfLoss = Callable[[slice, tuple[Tensor | None, ...]], Tensor]


def sum_over_rows(part: PartOfLoss, rows: int, at_a_time: int, tensors: Sequence[Tensor | None]) -> Tensor:
    """``part(slice, tensors of these rows)``, a scalar, summed over all ``rows``, ``at_a_time`` of them at once.

    tensors: the tensors that need gradients: (B, ...), (1, ...) if shared by all rows, or None. ``part`` gets the given
    rows of them. Other tensors that it uses get no gradient. The result can be differentiated only once.
    """
    learning = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)
    if torch.compiler.is_compiling() or (at_a_time >= rows and not learning):
        return part(slice(0, rows), tuple(tensors))
    result: Tensor = _SumOverRows.apply(part, rows, at_a_time, learning, *tensors)  # type: ignore[no-untyped-call]
    return result


class _SumOverRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, part: PartOfLoss, rows: int, at_a_time: int, learning: bool, *tensors: Tensor | None
    ) -> Tensor:
        needed = [learning and needs for needs in ctx.needs_input_grad[4:]]
        grads = [
            torch.zeros(x.shape, dtype=_unscaled(x.dtype), device=x.device) if x is not None and needs else None
            for x, needs in zip(tensors, needed, strict=True)
        ]
        total: Tensor | None = None
        for first in range(0, rows, max(1, at_a_time)):
            chosen = slice(first, min(first + max(1, at_a_time), rows))
            pieces = tuple(
                None if x is None else _cut(x, chosen, rows).detach().to(_unscaled(x.dtype)) for x in tensors
            )
            with torch.set_grad_enabled(learning):
                learners = zip(pieces, needed, strict=True)
                leaves = [piece.requires_grad_() for piece, needs in learners if piece is not None and needs]
                loss = part(chosen, pieces)
            if leaves:
                found = torch.autograd.grad(loss, leaves, allow_unused=True)
                for grad, piece in zip((g for g in grads if g is not None), found, strict=True):
                    if piece is not None:
                        _cut(grad, chosen, rows).add_(piece)
            total = loss.detach() if total is None else total + loss.detach()
        ctx.save_for_backward(*grads)
        ctx.dtypes = [None if x is None else x.dtype for x in tensors]
        assert total is not None, "a batch has rows"
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        kept = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        scaled = [None if found is None else (found * grad.to(found.dtype)).to(dtype) for found, dtype in kept]
        return None, None, None, None, *scaled


def _unscaled(dtype: torch.dtype) -> torch.dtype:
    # The loss scale is applied only in the backward; before, small gradients would underflow in float16.
    return torch.float32 if dtype == torch.float16 else dtype


def _cut(x: Tensor, chosen: slice, rows: int) -> Tensor:
    return x[chosen] if x.shape[0] == rows else x
