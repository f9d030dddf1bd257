"""The distance between the logits of student and teacher, in float32.

Shapes: B batch, L tokens, C classes. No gradient flows to the teacher's tensors.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xtc_ds.distillation.formulas.divergence import kl_divergence, masked_mean
from xtc_ds.errors import DistillationError

__all__ = ["Task", "logits_loss", "task_of"]

Task = Literal["classification", "regression", "multi_label"]


def task_of(problem_type: str | None, labels: int) -> Task:
    """The kind of task: from Hugging Face's ``problem_type`` if it is set, else from the number of labels."""
    if problem_type == "multi_label_classification":
        return "multi_label"
    if problem_type == "regression" or (problem_type is None and labels == 1):
        return "regression"
    return "classification"


def logits_loss(
    student: Tensor, teacher: Tensor, task: Task, temperature: float = 1.0, valid_BL: Tensor | None = None
) -> Tensor:
    """The distance of the student's logits (B, C) or (B, L, C) from the teacher's; 0 if they are equal.

    classification: T^2 KL(softmax(teacher/T) || softmax(student/T)), averaged over B (Hinton et al., 2015;
        the gradient is that of the soft cross entropy XTC uses). regression: mean squared error.
    multi_label: T^2 times the KL of each label's two outcomes, averaged over B and C: the gradient of
        binary cross entropy with the teacher's soft targets.
    valid_BL: for logits per token, a mask of the tokens that count.

    Raises DistillationError if the shapes differ.
    """
    if student.shape != teacher.shape:
        raise DistillationError(
            f"the student's logits have shape {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}"
        )
    s, t = student.float(), teacher.float()
    if task == "regression":
        per_class = (s - t).square()
    elif task == "multi_label":
        s, t = s / temperature, t / temperature
        target = torch.sigmoid(t)
        entropy = F.binary_cross_entropy_with_logits(t, target, reduction="none")
        per_class = F.binary_cross_entropy_with_logits(s, target, reduction="none") - entropy
    else:
        per_class = kl_divergence(s / temperature, t / temperature)
    per_row = per_class.sum(-1) if task == "classification" else per_class.mean(-1)
    if task != "regression":
        per_row = per_row * temperature**2
    if valid_BL is not None and valid_BL.shape == per_row.shape:
        return masked_mean(per_row, valid_BL)
    return per_row.mean()
