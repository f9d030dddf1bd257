"""What a distillation loss is. Neither this module nor those that declare losses import torch by themselves.

So the ``kd`` block of a config, whose keys the losses bring, can be checked without it. A loss computes with torch
inside ``compute``.
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
# (index in the student, index in the teacher), each index of the student at most once.
Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Taps:
    """What a loss compares: of each tap, what of the student with what of the teacher.

    outputs: names of model outputs, such as "logits". A teacher that no loss taps for outputs stops at the last layer
        that is tapped.
    hidden: hidden states: 0 is what enters the first layer, i + 1 what leaves layer i.
    projected: whether the student's hidden states are wanted in the teacher's width; if widths differ, a linear map is
        learned along with the student.
    attention: layers whose attention is recorded. values: whether the records hold values beside queries and keys.
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

    name: what the term is called in logs. weight_key: the field, and key, that is the weight of the term; with 0 the
    loss is not computed.
    needs_layers: whether ``taps`` asks for anything inside the models, and so for a list of layers in both.
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
        """What the loss compares. layer_map: which layer of the teacher each layer of the student learns from."""

    def problems(self, student: nn.Module, teacher: nn.Module) -> Iterable[tuple[str, str]]:
        """(key of ``kd``, what is wrong) where the two models cannot be compared; looked at before any training."""
        return ()

    @abstractmethod
    def compute(self, forward: PairedForward) -> Tensor:
        """The loss, a float32 scalar without the weight, from one training forward of both models.

        Raises DistillationError where the outputs cannot be compared.
        """


def weight(text: str, default: float = 0.0) -> Any:
    """A field that holds the weight of a loss. text: its description in the schema and the documentation."""
    allowed = f"a number from 0 to {LARGEST:.0f}"
    return key(text, default, examples=(1.0, 0.0), minimum=0, maximum=LARGEST, allowed=allowed)


def switched_off(weight_keys: Sequence[str]) -> str:
    """What to do to have no such loss, in words: ``set "hidden_weight": 0``."""
    zeros = [f'"{key}": 0' for key in weight_keys] or ["its weight to 0"]
    return f"set {' and '.join(zeros)}"
