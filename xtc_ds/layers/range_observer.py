"""The running range of a static activation quantizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["RangeObserver"]

_MOMENTUM = 0.95


class RangeObserver(nn.Module):
    """Moving average of the minimum and maximum of a layer's input (DeepSpeed's ``QuantAct``).

    While training, ``range = 0.95 * range + 0.05 * batch range``; the first batch sets it. The buffer
    ``x_min_max`` (2,) has DeepSpeed's name, so that its checkpoints load.
    """

    x_min_max: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("x_min_max", torch.zeros(2))
        self._seen = False

    @property
    def calibrated(self) -> bool:
        """Whether a range has been seen or loaded."""
        if not self._seen:
            self._seen = bool(self.x_min_max[0] != self.x_min_max[1])
        return self._seen

    def forward(self, x: Tensor) -> None:
        """Take in one batch; does nothing in evaluation."""
        if not self.training:
            return
        with torch.no_grad():
            batch = torch.stack([x.detach().min(), x.detach().max()]).to(self.x_min_max.dtype)
            if self.calibrated:
                self.x_min_max.mul_(_MOMENTUM).add_(batch, alpha=1 - _MOMENTUM)
            else:
                self.x_min_max.copy_(batch)

    def _apply(self, fn: Any, recurse: bool = True) -> RangeObserver:
        # A 16-bit model keeps this average in float32: its steps of 5% would round away.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.x_min_max = self.x_min_max.float()
        return self
