"""Mask the inputs of layers that read the output of a pruned layer and shrink with it when the model is frozen.

Pruned units are zeros in the pruned layer's output, but layers in between may turn zeros into constants (a norm's bias,
an activation with f(0) != 0) that the frozen model will not have. So the reading layer sets them to zero itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from xtc_ds.layers import CompressedLayer, InputInForce, InputTransform
from xtc_ds.plan.rows import Row
from xtc_ds.techniques.pruning.unit_masks import OutputMask

__all__ = ["UnprunedInput"]


@dataclass(frozen=True)
class UnprunedInput(InputTransform, InputInForce):
    """Sets the inputs that come from pruned units to zero. source: the pruned layer; mask: its transform."""

    source: CompressedLayer
    mask: OutputMask

    @property
    def row(self) -> Row:  # type: ignore[override]
        """The row of the pruned layer."""
        return self.mask.row

    def at(self, step: int) -> InputInForce | None:
        """Always active; ``__call__`` follows the schedule of the source."""
        return self

    def __call__(self, layer: CompressedLayer, x: Tensor) -> Tensor:
        """``x`` with zeros for pruned units; ``x`` itself while no unit is pruned."""
        kept = self.mask.units_in_force(self.source)
        if kept is None:
            return x
        gone = kept.to(x.device).logical_not().view(-1, *[1] * (-1 - layer.layer_kind.feature_dim))
        # If units are selected again in every step, pruned ones need a gradient, too.
        return _zeroed(x, gone) if self.mask.row.method == "topk" else x.masked_fill(gone, 0)

    def kept_inputs(self, layer: CompressedLayer) -> Tensor | None:
        """Indices of the inputs from kept units; None while no unit is pruned."""
        kept = self.mask.units_in_force(self.source)
        return None if kept is None else kept.nonzero().flatten()

    def follow_copies(self, copies: Mapping[int, Any]) -> UnprunedInput:
        """The transform that refers to the copy of the source, if there is one."""
        return replace(self, source=copies.get(id(self.source), self.source))


class _Zeroed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gone: Tensor) -> Tensor:
        return x.masked_fill(gone, 0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return grad, None


def _zeroed(x: Tensor, gone: Tensor) -> Tensor:
    """``x`` with zeros where ``gone``; the gradient is not masked, so that scores of pruned units keep learning."""
    result: Tensor = _Zeroed.apply(x, gone)  # type: ignore[no-untyped-call]
    return result
