"""The training loss: the weighted sum of the distillation losses and of the student's own loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from xtc_ds.distillation.settings import DistillationSettings, active_losses
from xtc_ds.errors import DistillationError

__all__ = ["total_loss"]


def total_loss(
    settings: DistillationSettings, parts: Mapping[str, Tensor], own: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """(weighted sum in float32, all losses without their weights).

    parts: the loss of each active loss by name. own: the student's own loss, which becomes the part "hard"; None:
    the batch had no labels.

    Raises DistillationError if the labels have a weight but the student computed no loss.
    """
    found = dict(parts)
    terms = [loss.weight * parts[loss.name].float() for loss in active_losses(settings)]
    weight = settings.hard_label_weight
    if own is not None:
        found["hard"] = own
        terms += [weight * own.float()] if weight > 0 else []
    elif weight > 0:
        raise DistillationError(
            f"{settings.path}.hard_label_weight is {weight} but the student computed no loss; the batch needs labels"
        )
    return torch.stack(terms).sum(), found
