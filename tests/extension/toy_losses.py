"""Two distillation losses as another package would bring them. The entry point's test runs this file as a module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from xtc_ds.config.keys import key
from xtc_ds.distillation.loss import DistillationLoss, Taps, weight


@dataclass(frozen=True, kw_only=True)
class CosineLoss(DistillationLoss):
    """One minus the cosine between the logits of both models."""

    name: ClassVar[str] = "cosine"
    weight_key: ClassVar[str] = "cosine_weight"
    needs_layers: ClassVar[bool] = False

    cosine_weight: float = weight("Weight of the angle between the logits.")

    def taps(self, layer_map: Any) -> Taps:
        return Taps(outputs=("logits",))

    def compute(self, forward: Any) -> Any:
        import torch

        student, teacher = forward.outputs("logits")
        return 1 - torch.cosine_similarity(student.float(), teacher.float(), dim=-1).mean()


@dataclass(frozen=True, kw_only=True)
class LastStateLoss(DistillationLoss):
    """The distance of the last hidden states alone."""

    name: ClassVar[str] = "last_state"
    weight_key: ClassVar[str] = "last_state_weight"
    needs_layers: ClassVar[bool] = True

    last_state_weight: float = weight("Weight of the last hidden state.")
    last_state_norm: Literal["l1", "l2"] = key("How differences are measured.", "l2", examples=("l1",))

    def taps(self, layer_map: Any) -> Taps:
        return Taps(hidden=layer_map.hidden_pairs[-1:])

    def compute(self, forward: Any) -> Any:
        ((student, teacher),) = forward.hidden_states()
        difference = (student.float() - teacher.float())[forward.valid_BL]
        return (difference.abs() if self.last_state_norm == "l1" else difference.square()).mean()
