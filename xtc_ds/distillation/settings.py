"""What a distillation is configured by; the ``kd`` block of a config is one such object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from xtc_ds.distillation.loss import DistillationLoss

__all__ = ["DistillationSettings", "active_losses"]


class DistillationSettings(Protocol):
    """path: the place of the block, for messages. Without ``cache_folder`` the teacher's logits are not cached."""

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
    """The losses that have a weight."""
    return tuple(loss for loss in settings.losses if loss.weight > 0)
