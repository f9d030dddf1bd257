"""The settings of a distillation; the ``kd`` block of a config is such an object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from xtc_ds.distillation.loss import DistillationLoss

__all__ = ["DistillationSettings", "active_losses"]


class DistillationSettings(Protocol):
    """The keys of the ``kd`` block that distillation reads.

    path: the key path of the block, for messages. cache_folder: None: the teacher's logits are not cached.
    """

    @property
    def path(self) -> str: ...
    @property
    def losses(self) -> Sequence[DistillationLoss]: ...
    @property
    def hard_label_weight(self) -> float: ...
    @property
    def layer_map(self) -> tuple[int, ...] | None: ...
    @property
    def teacher_dtype(self) -> str | None: ...
    @property
    def cache(self) -> str: ...
    @property
    def cache_folder(self) -> str | None: ...


def active_losses(settings: DistillationSettings) -> tuple[DistillationLoss, ...]:
    """The losses with a weight above 0."""
    return tuple(loss for loss in settings.losses if loss.weight > 0)
