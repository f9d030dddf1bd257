"""Building blocks of several losses: the Kullback-Leibler divergence, and a mean over the tokens that count."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from xtc_ds.distillation.token_masks import count

__all__ = ["kl_divergence", "masked_mean"]


def kl_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """The terms of KL(softmax(teacher) || softmax(student)) over the last dimension, from logits of equal shape."""
    log_s, log_t = F.log_softmax(student, dim=-1), F.log_softmax(teacher, dim=-1)
    return F.kl_div(log_s, log_t, reduction="none", log_target=True)


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of ``values`` where ``valid``, a bool tensor of the same shape, is True; 0 if it is True nowhere."""
    return values.masked_fill(~valid, 0.0).sum() / count(valid)
