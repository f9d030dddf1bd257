"""The loss scale of an engine."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["loss_scale"]


def loss_scale(engine: Any) -> float:
    """The factor by which ``engine.backward`` multiplies the loss now; 1 unless it trains in fp16.

    Found by scaling a loss of one in the way of ``engine.backward``, because DeepSpeed's fp16 optimizers without ZeRO
    have a loss scale attribute that is not applied.
    """
    from deepspeed.runtime.base_optimizer import ZeROOptimizer

    one = torch.ones((), device=engine.device, requires_grad=True) * 1
    if isinstance(engine.optimizer, ZeROOptimizer):
        return float(engine.optimizer.scale_if_loss(one).detach())
    scaler = getattr(engine, "torch_autocast_z0_gradscaler", None)
    return 1.0 if scaler is None else float(scaler.scale(one).detach())
