"""Distillation: the losses that make a student follow its teacher, what they look at, and the teacher's forward.

Importing this package imports no torch, so that the keys of the losses can be read without it.
"""

from __future__ import annotations

from xtc_ds.distillation.loss import DistillationLoss, Taps
from xtc_ds.distillation.registry import distillation_losses, register_loss

__all__ = ["DistillationLoss", "Taps", "distillation_losses", "register_loss"]
