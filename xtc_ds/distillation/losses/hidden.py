"""The loss on the hidden states between the layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from xtc_ds.distillation.loss import DistillationLoss, Taps, weight
from xtc_ds.distillation.registry import register_loss

if TYPE_CHECKING:
    from torch import Tensor

    from xtc_ds.distillation.layer_map import LayerMap
    from xtc_ds.distillation.paired_forward import PairedForward

__all__ = ["HiddenLoss"]


@register_loss
@dataclass(frozen=True, kw_only=True)
class HiddenLoss(DistillationLoss):
    """Mean squared error of the hidden states, summed over the layers and the embeddings' output."""

    name: ClassVar[str] = "hidden"
    weight_key: ClassVar[str] = "hidden_weight"
    needs_layers: ClassVar[bool] = True

    hidden_weight: float = weight("Weight of the hidden states in the loss.", 1.0)

    def taps(self, layer_map: LayerMap) -> Taps:
        """Every hidden state of the student."""
        return Taps(hidden=layer_map.hidden_pairs, projected=True)

    def compute(self, forward: PairedForward) -> Tensor:
        """The sum over all pairs of states."""
        import torch

        from xtc_ds.distillation.formulas.hidden import hidden_loss

        losses = [hidden_loss(student, teacher, forward.valid_BL) for student, teacher in forward.hidden_states()]
        return torch.stack(losses).sum()
