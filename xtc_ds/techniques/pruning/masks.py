"""Pruning masks: where they are stored, when they are active, and how they are made from norms or learned scores.

Buffers and parameters have DeepSpeed's names, so that DeepSpeed's checkpoints load. A mask holds 0 and 1 in the
weight's dtype; a learned mask is computed from its scores in every forward.

Shape legend: O and I = output and input features or channels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from xtc_ds.layers import CompressedLayer, WeightInForce, WeightTransform
from xtc_ds.techniques.pruning.top import straight_through
from xtc_ds.zero import gathered

__all__ = ["Mask"]


class Mask(WeightTransform, WeightInForce):
    """Multiplies a weight by a mask from the row's offset on."""

    row: Any

    @property
    def technique(self) -> str:
        """The name of the technique to which the mask belongs."""
        raise NotImplementedError

    @property
    def mask_name(self) -> str:
        """The name of the buffer for a fixed mask."""
        raise NotImplementedError

    @property
    def scores_name(self) -> str:
        """The name of the parameter for learned scores."""
        raise NotImplementedError

    def norms(self, w: Tensor) -> Tensor:
        """The norm of each unit of ``w`` (outputs first), in the shape of the scores."""
        raise NotImplementedError

    def scores_shape(self) -> tuple[int, ...]:
        """The shape of the scores, with one score per unit."""
        raise NotImplementedError

    def mask_of(self, scores: Tensor) -> Tensor:
        """The mask that follows from ``scores``, in the shape in which it is stored."""
        raise NotImplementedError

    def multiply(self, mask: Tensor, w: Tensor, bias_O: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Weight and bias, multiplied by the mask."""
        raise NotImplementedError

    def attach(self, layer: CompressedLayer) -> None:
        """Add a mask made from the current weights, or scores to learn. With ZeRO-3 all ranks have to call this."""
        assert isinstance(layer, nn.Module)
        weight: Tensor = layer.weight  # type: ignore[assignment]
        with gathered([weight]), torch.no_grad():
            self.add_tensors(layer, layer.layer_kind.outputs_first(weight.detach()))
        layer.weight_transforms = (*layer.weight_transforms, self)

    def add_tensors(self, layer: nn.Module, w: Tensor) -> None:
        """Register the mask buffer or the scores; ``w`` is the whole weight, outputs first."""
        if self.row.method == "topk":
            # Random initial scores, in the dtype and on the device of the weight.
            scores = torch.empty(self.scores_shape(), dtype=w.dtype, device=w.device)
            layer.register_parameter(self.scores_name, nn.Parameter(nn.init.kaiming_uniform_(scores, a=math.sqrt(5))))
        else:
            layer.register_buffer(self.mask_name, self.mask_of(self.norms(w)).contiguous())

    def at(self, layer: CompressedLayer, step: int) -> WeightInForce | None:
        """Active from the offset on."""
        return self if step >= self.row.offset else None

    def __call__(
        self, layer: CompressedLayer, w: Tensor, bias_O: Tensor | None, rows_O: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Weight and bias with pruned values set to zero; scores receive the gradient of their mask."""
        return self.multiply(self.mask(layer).to(w.dtype), w, bias_O)

    def mask(self, layer: CompressedLayer) -> Tensor:
        """The fixed mask, or the one that the scores give now. To be called in the layer's forward."""
        if self.row.method != "topk":
            fixed: Tensor = getattr(layer, self.mask_name)
            return fixed
        scores: Tensor = getattr(layer, self.scores_name)
        return straight_through(scores, self.mask_of(scores.detach()))

    def shipped(self, layer: CompressedLayer) -> Tensor:
        """The mask as it would be shipped now. With ZeRO-3 all ranks have to call this."""
        scores = [getattr(layer, self.scores_name)] if self.row.method == "topk" else []
        with gathered(scores), torch.no_grad():
            return self.mask(layer).detach()

    def remove(self, layer: CompressedLayer) -> None:
        """Remove the mask and the scores."""
        assert isinstance(layer, nn.Module)
        layer._buffers.pop(self.mask_name, None)
        layer._parameters.pop(self.scores_name, None)
