"""The loss on the models' predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from xtc_ds.config.keys import key
from xtc_ds.distillation.loss import LARGEST, DistillationLoss, Taps, weight
from xtc_ds.distillation.registry import register_loss

if TYPE_CHECKING:
    from torch import Tensor

    from xtc_ds.distillation.layer_map import LayerMap
    from xtc_ds.distillation.paired_forward import PairedForward

__all__ = ["LogitsLoss"]


@register_loss
@dataclass(frozen=True, kw_only=True)
class LogitsLoss(DistillationLoss):
    """The distance of the student's logits from the teacher's: see ``formulas.logits.logits_loss``."""

    name: ClassVar[str] = "logits"
    weight_key: ClassVar[str] = "logits_weight"
    needs_layers: ClassVar[bool] = False

    logits_weight: float = weight("Weight of the teacher's logits in the loss.", 1.0)
    temperature: float = key(
        "Softmax temperature of the logits loss.",
        1.0,
        examples=(1.0, 2.0),
        exclusiveMinimum=0,
        maximum=LARGEST,
        allowed=f"a number > 0, at most {LARGEST:.0f}",
        before="hard_label_weight",
    )

    def taps(self, layer_map: LayerMap) -> Taps:
        """The logits."""
        return Taps(outputs=("logits",))

    def compute(self, forward: PairedForward) -> Tensor:
        """The loss for the student's task: classification, regression, or multi-label classification."""
        from xtc_ds.distillation.formulas.logits import logits_loss, task_of
        from xtc_ds.distillation.model_config import config_value

        student, teacher = forward.outputs("logits")
        task = task_of(config_value(forward.student, "problem_type"), student.shape[-1])
        valid = forward.valid_targets_BL if student.ndim == 3 else None
        return logits_loss(student, teacher, task, self.temperature, valid)
