"""The distance between hidden states of student and teacher, in float32.

Shapes: B batch, L tokens, D width. No gradient flows to the teacher's tensors.
"""

from __future__ import annotations

from torch import Tensor

from xtc_ds.distillation.formulas.divergence import masked_mean
from xtc_ds.errors import DistillationError

__all__ = ["hidden_loss"]


def hidden_loss(student_BLD: Tensor, teacher_BLD: Tensor, valid_BL: Tensor | None = None) -> Tensor:
    """Mean squared error of one hidden state over valid tokens and features.

    Raises DistillationError if the shapes differ.
    """
    if student_BLD.shape != teacher_BLD.shape:
        raise DistillationError(
            f"hidden states differ in shape: student {tuple(student_BLD.shape)}, teacher {tuple(teacher_BLD.shape)}; "
            "both models must see the same tokens"
        )
    per_token = (student_BLD.float() - teacher_BLD.float()).square().mean(-1)
    return per_token.mean() if valid_BL is None else masked_mean(per_token, valid_BL)
