"""The registry of distillation losses.

Another distribution adds one with an entry point, which names a module that calls ``register_loss``::

    [project.entry-points."xtc_ds.distillation_losses"]
    my_loss = "my_package.my_loss"
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TypeVar

from xtc_ds.distillation.loss import DistillationLoss
from xtc_ds.errors import ConfigError
from xtc_ds.extensions import entry_points_of, named_if_broken

__all__ = ["BUILT_IN_LOSSES", "LOSS_ENTRY_POINTS", "distillation_losses", "register_loss"]

# In the order in which their terms are added up. A new built-in loss is one line here.
BUILT_IN_LOSSES = ("logits", "hidden", "attention")
LOSS_ENTRY_POINTS = "xtc_ds.distillation_losses"
# Names used in logs for the sum of all terms and for the student's own loss.
_RESERVED = ("loss", "hard")

LossClass = TypeVar("LossClass", bound=type[DistillationLoss])
_losses: dict[str, type[DistillationLoss]] = {}


def register_loss(loss: LossClass) -> LossClass:
    """Decorator that registers a loss; must run before a config uses it. Raises ConfigError if its name is taken."""
    if loss.name in _losses or loss.name in _RESERVED:
        raise ConfigError(f"distillation loss '{loss.name}': the name is taken; choose another one")
    _losses[loss.name] = loss
    return loss


def distillation_losses() -> tuple[type[DistillationLoss], ...]:
    """All losses: the built-in ones in the order of their list, then others in the order of registration."""
    _import_losses()
    others = [name for name in _losses if name not in BUILT_IN_LOSSES]
    return tuple(_losses[name] for name in (*BUILT_IN_LOSSES, *others))


@cache
def _import_losses() -> None:
    for name in BUILT_IN_LOSSES:
        importlib.import_module(f"xtc_ds.distillation.losses.{name}")
    for entry in entry_points_of(LOSS_ENTRY_POINTS):
        with named_if_broken(entry, LOSS_ENTRY_POINTS):
            entry.load()
