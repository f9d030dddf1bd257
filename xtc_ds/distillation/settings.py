"""What a distillation is configured by; the ``kd`` block of a config is one such object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Protocol

from xtc_ds.distillation.loss import DistillationLoss
from xtc_ds.distillation.registry import distillation_losses

__all__ = ["DistillationSettings", "active_losses"]


class DistillationSettings(Protocol):
    """path: the place of the block, for messages. Without ``cache_folder`` the teacher's logits are not cached."""

    @property
    def path(self) -> str: ...
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
    return tuple(loss for loss in _losses(settings) if loss.weight > 0)


def _losses(settings: DistillationSettings) -> Iterator[DistillationLoss]:
    for loss in distillation_losses():
        yield loss(**{key.name: getattr(settings, key.name) for key in fields(loss)})
