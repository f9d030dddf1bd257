"""Distillation: the losses by which a student learns from its teacher, their inputs, and the teacher's forward.

Importing this package does not import torch, so that the config keys of the losses can be read without it.
"""

from __future__ import annotations

from xtc_ds.distillation.loss import DistillationLoss, Taps
from xtc_ds.distillation.registry import distillation_losses, register_loss

__all__ = ["DistillationLoss", "Taps", "distillation_losses", "register_loss"]
