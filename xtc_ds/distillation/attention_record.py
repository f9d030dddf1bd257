"""The recorded inputs of one attention layer, and the listeners to which records are passed.

Shapes: B batch, H query heads, G key/value heads, Q queries, K keys, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["FORBIDDEN", "AttentionListener", "AttentionRecord", "add_listener", "current_listeners", "remove_listener"]

# Additive masks add -10000 or the dtype's minimum where attention is forbidden; biases are far above this threshold.
FORBIDDEN = -5000.0


@dataclass(frozen=True, slots=True)
class AttentionRecord:
    """The inputs of one attention layer. ``query`` (B, H, Q, D), ``key`` and ``value`` (B, G, K, D; None: not kept).

    ``mask`` broadcasts to (B, H, Q, K): additive, or boolean with True where attention is allowed. ``has_sinks``:
    whether the softmax has terms for attention sinks, which are no keys and not part of ``scores``.
    """

    query: Tensor
    key: Tensor
    value: Tensor | None
    mask: Tensor | None
    scaling: float
    softcap: float | None = None
    bias: Tensor | None = None
    has_sinks: bool = False

    def scores(self) -> Tensor:
        """Pre-softmax scores ``Q K^T * scaling + mask``, (B, H, Q, K) in float32."""
        groups = self.query.shape[1] // self.key.shape[1]
        key_BHKD = self.key.float().repeat_interleave(groups, dim=1) if groups > 1 else self.key.float()
        scores_BHQK = self.query.float() @ key_BHKD.transpose(2, 3) * self.scaling
        if self.softcap is not None:
            scores_BHQK = torch.tanh(scores_BHQK / self.softcap) * self.softcap
        if self.bias is not None:
            scores_BHQK = scores_BHQK + self.bias.float()
        if self.mask is None:
            return scores_BHQK
        mask = self.mask[..., : self.key.shape[2]]
        if mask.dtype == torch.bool:
            return scores_BHQK.masked_fill(~mask, torch.finfo(torch.float32).min)
        return scores_BHQK + mask.float()

    def allowed(self) -> Tensor:
        """(B, 1, Q, K) bool: False where the mask forbids attention in every head."""
        batch, _, queries, _ = self.query.shape
        keys = self.key.shape[2]
        if self.mask is None:
            return torch.ones(batch, 1, queries, keys, dtype=torch.bool, device=self.query.device)
        mask = self.mask[..., :keys]
        open_ = mask if mask.dtype == torch.bool else mask > FORBIDDEN
        return open_.any(dim=1, keepdim=True).expand(batch, 1, queries, keys)


AttentionListener = Callable[[nn.Module, AttentionRecord], None]
_listeners: list[AttentionListener] = []


def add_listener(listener: AttentionListener) -> None:
    """Call ``listener(attention_module, record)`` at every tapped attention layer from now on."""
    _listeners.append(listener)


def remove_listener(listener: AttentionListener) -> None:
    """Undo ``add_listener``; unknown listeners are ignored."""
    if listener in _listeners:
        _listeners.remove(listener)


def current_listeners() -> tuple[AttentionListener, ...]:
    """The currently registered listeners."""
    return tuple(_listeners)
