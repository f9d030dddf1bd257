"""Layers that read what a pruned layer gives, and shrink along with it when the model is frozen.

Pruned units are zeros where they are made, but what lies between may turn zeros into constants (a norm's bias, an
activation with f(0) != 0) that the frozen model will not have. So a reader takes them for zeros itself.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from xtc_ds.layer_kinds import LayerKind
from xtc_ds.layers.masks import PrunedLayer
from xtc_ds.plan.rows import StructuredRow

__all__ = ["ReadingLayer"]


class ReadingLayer:
    """Mixin: where a layer's inputs come from, if units of it are pruned."""

    # The pruned layer and its rule. In a tuple it is no submodule, and copies of the model keep the relation.
    pruned_source: tuple[PrunedLayer, StructuredRow] | None = None
    layer_kind: ClassVar[LayerKind]

    def live_input(self, x: Tensor) -> Tensor:
        """``x`` with zeros in the place of what pruned units became; ``x`` itself while none is pruned."""
        mask = self._source_mask()
        if mask is None:
            return x
        assert self.pruned_source is not None
        gone = mask.to(x.device).logical_not().view(-1, *[1] * (-1 - self.layer_kind.feature_dim))
        # Units that are chosen anew in every step need to know what they would be good for.
        learned = self.pruned_source[1].method == "topk"
        return _zeroed(x, gone) if learned else x.masked_fill(gone, 0)

    def live_inputs(self) -> Tensor | None:
        """Indices of the inputs that come from units that stay, int64; None while none is pruned."""
        mask = self._source_mask()
        return None if mask is None else mask.nonzero().flatten()

    def _source_mask(self) -> Tensor | None:
        if self.pruned_source is None:
            return None
        layer, rule = self.pruned_source
        return layer.unit_mask_in_force(rule)

    def follow_copies(self, copies: dict[int, Any]) -> None:
        """Read the copy of the source where there is one; ``copies``: id of the original to copy."""
        if self.pruned_source is not None:
            layer, rule = self.pruned_source
            self.pruned_source = (copies.get(id(layer), layer), rule)


class _Zeroed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gone: Tensor) -> Tensor:
        return x.masked_fill(gone, 0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return grad, None


def _zeroed(x: Tensor, gone: Tensor) -> Tensor:
    """``x`` with zeros; the gradient passes, so that the scores of pruned units learn as those of the others."""
    result: Tensor = _Zeroed.apply(x, gone)  # type: ignore[no-untyped-call]
    return result
