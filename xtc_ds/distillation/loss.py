"""The base class of distillation losses. Neither this module nor those that declare losses import torch directly.

Therefore the ``kd`` block of a config, which contains the keys of the losses, can be checked without torch. A loss
imports torch inside ``compute``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from xtc_ds.config.keys import key

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xtc_ds.distillation.layer_map import LayerMap
    from xtc_ds.distillation.paired_forward import PairedForward

__all__ = ["LARGEST", "DistillationLoss", "Pairs", "Taps", "switched_off", "weight"]

# The largest weight, and temperature, that a config may give.
LARGEST = 1e6
# (index in the student, index in the teacher); each student index occurs at most once.
Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Taps:
    """The tensors of student and teacher that a loss compares.

    outputs: names of model outputs, such as "logits". If no loss uses outputs, the teacher's forward stops after the
        last tapped layer.
    hidden: hidden states; 0 is the input of the first layer, i + 1 the output of layer i.
    projected: whether the student's hidden states are mapped to the teacher's width; if widths differ, a linear map is
        learned with the student.
    attention: layers whose attention is recorded. values: whether the records include values besides queries and keys.
    """

    outputs: tuple[str, ...] = ()
    hidden: Pairs = ()
    projected: bool = False
    attention: Pairs = ()
    values: bool = False


@dataclass(frozen=True, kw_only=True)
class DistillationLoss(ABC):
    """One term of the distillation loss. Subclasses are frozen dataclasses whose fields are their keys in ``kd``.

    Fields are made by ``weight`` and by ``xtc_ds.config.keys.key``.

    name: the name of the term in logs. weight_key: the field (and key) with the weight of the term; with 0 the loss is
    not computed.
    needs_layers: whether ``taps`` uses hidden states or attention, and therefore the lists of layers of both models.
    """

    name: ClassVar[str]
    weight_key: ClassVar[str]
    needs_layers: ClassVar[bool]

    @property
    def weight(self) -> float:
        """The factor of this term in the loss."""
        return float(getattr(self, self.weight_key))

    @abstractmethod
    def taps(self, layer_map: LayerMap) -> Taps:
        """What the loss compares. layer_map: the teacher layer from which each student layer learns."""

    def problems(self, student: nn.Module, teacher: nn.Module) -> Iterable[tuple[str, str]]:
        """(key of ``kd``, what is wrong) if the two models cannot be compared; checked before training."""
        return ()

    @abstractmethod
    def compute(self, forward: PairedForward) -> Tensor:
        """The unweighted loss, a float32 scalar, for one training forward of both models.

        Raises DistillationError if the outputs cannot be compared.
        """


def weight(text: str, default: float = 0.0) -> Any:
    """A field for the weight of a loss. text: its description in the schema and the documentation."""
    allowed = f"a number from 0 to {LARGEST:.0f}"
    return key(text, default, examples=(1.0, 0.0), minimum=0, maximum=LARGEST, allowed=allowed)


def switched_off(weight_keys: Sequence[str]) -> str:
    """How to switch such losses off, for messages: ``set "hidden_weight": 0``."""
    zeros = [f'"{key}": 0' for key in weight_keys] or ["its weight to 0"]
    return f"set {' and '.join(zeros)}"
