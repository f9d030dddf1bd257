"""The loss on the attention of the layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from xtc_ds.config.keys import key
from xtc_ds.distillation.loss import DistillationLoss, Taps, weight
from xtc_ds.distillation.registry import register_loss

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xtc_ds.distillation.layer_map import LayerMap
    from xtc_ds.distillation.paired_forward import PairedForward

__all__ = ["AttentionLoss", "AttentionType"]

AttentionType = Literal["scores", "probabilities", "relations"]


@register_loss
@dataclass(frozen=True, kw_only=True)
class AttentionLoss(DistillationLoss):
    """Compares the attention of each layer by scores, probabilities or MiniLM's relations; summed over the layers."""

    name: ClassVar[str] = "attention"
    weight_key: ClassVar[str] = "attention_weight"
    needs_layers: ClassVar[bool] = True

    attention_weight: float = weight("Weight of the attention maps in the loss.", 1.0)
    attention_type: AttentionType = key(
        "scores: products of queries and keys before the softmax. probabilities: after it. relations: MiniLM's query, "
        "key and value relations.",
        "scores",
        examples=("scores",),
    )

    def taps(self, layer_map: LayerMap) -> Taps:
        """The attention of every layer of the student."""
        return Taps(attention=layer_map.attention_pairs, values=self.attention_type == "relations")

    def problems(self, student: nn.Module, teacher: nn.Module) -> Iterator[tuple[str, str]]:
        """Report unequal head counts: scores and probabilities are compared head by head."""
        from xtc_ds.distillation.model_config import config_value

        heads = [config_value(model, "num_attention_heads") for model in (student, teacher)]
        if self.attention_type != "relations" and None not in heads and heads[0] != heads[1]:
            yield (
                "attention_type",
                f"'{self.attention_type}' needs equal numbers of attention heads; found {heads[0]} in the student "
                f'and {heads[1]} in the teacher; use "relations" or "attention_weight": 0',
            )

    def compute(self, forward: PairedForward) -> Tensor:
        """The sum over layers, processed one pair at a time."""
        from xtc_ds.distillation.formulas.attention_records import attention_loss

        return attention_loss(forward.attention(), self.attention_type, forward.valid_BL)
