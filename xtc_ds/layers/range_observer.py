"""The running range of a static activation quantizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["RangeObserver"]

_MOMENTUM = 0.95


class RangeObserver(nn.Module):
    """Moving average of the minimum and maximum of a layer's input (DeepSpeed's ``QuantAct``).

    In training mode, ``range = 0.95 * range + 0.05 * batch range``; the first batch initializes it. The buffer
    ``x_min_max`` (2,) has DeepSpeed's name, so that DeepSpeed's checkpoints load.
    """

    x_min_max: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("x_min_max", torch.zeros(2))
        self._seen = False

    @property
    def calibrated(self) -> bool:
        """Whether a range has been observed or loaded."""
        if not self._seen:
            self._seen = bool(self.x_min_max[0] != self.x_min_max[1])
        return self._seen

    def forward(self, x: Tensor) -> None:
        """Observe one batch; no-op in evaluation mode and when a backward pass recomputes the forward."""
        # Gradient checkpointing runs layers again in the backward pass, with a batch that was already observed.
        if not self.training or not x.numel() or torch._C._current_graph_task_id() != -1:
            return
        with torch.no_grad():
            batch = torch.stack([x.detach().min(), x.detach().max()]).to(self.x_min_max.dtype)
            mean = self.x_min_max * _MOMENTUM + batch * (1 - _MOMENTUM) if self.calibrated else batch
            # Infinities and NaNs from an overflow, whose step is skipped, must not enter the average.
            self.x_min_max.copy_(torch.where(batch.isfinite().all(), mean, self.x_min_max))
        # Set also if the range is a single point, such as for an input of zeros.
        self._seen = True

    def _apply(self, fn: Any, recurse: bool = True) -> RangeObserver:
        # Keep this average in float32 in a 16-bit model, where its updates of 5% would be lost to rounding.
        exact = self.x_min_max
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.x_min_max = self.x_min_max.float() if exact.is_meta else exact.to(self.x_min_max.device)
        return self
