"""The distillation losses, as pure functions in float32.

Shapes: B batch, L tokens, D width, C classes, H heads, Q queries, K keys, R relation heads.
``valid_*`` is True where a token (or a pair of tokens) counts. A loss is a mean over what counts, so
padding never changes it; the sum over layers is the caller's. The teacher's tensors carry no gradient.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xtc_ds.distillation.pairs import count, count_pairs, count_queries
from xtc_ds.errors import DistillationError

__all__ = [
    "Task",
    "attention_probability_loss",
    "attention_score_loss",
    "hidden_loss",
    "logits_loss",
    "relation_heads",
    "relation_loss",
    "task_of",
]

Task = Literal["classification", "regression", "multi_label"]


def task_of(problem_type: str | None, labels: int) -> Task:
    """What the logits mean, by Hugging Face's ``problem_type`` if set, else by the number of labels."""
    if problem_type == "multi_label_classification":
        return "multi_label"
    if problem_type == "regression" or (problem_type is None and labels == 1):
        return "regression"
    return "classification"


def logits_loss(
    student: Tensor, teacher: Tensor, task: Task, temperature: float = 1.0, valid_BL: Tensor | None = None
) -> Tensor:
    """How far the student's logits (B, C) or (B, L, C) are from the teacher's; 0 when they are equal.

    classification: T^2 KL(softmax(teacher/T) || softmax(student/T)), averaged over B (Hinton et al., 2015;
        the gradient is that of the soft cross entropy XTC uses). regression: mean squared error.
    multi_label: T^2 times the KL of each label's two outcomes, averaged over B and C: the gradient of
        binary cross entropy with the teacher's soft targets.
    valid_BL: for logits per token, the tokens that count.

    Raises DistillationError when the shapes differ.
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
        per_class = _kl(s / temperature, t / temperature)
    per_row = per_class.sum(-1) if task == "classification" else per_class.mean(-1)
    if task != "regression":
        per_row = per_row * temperature**2
    if valid_BL is not None and valid_BL.shape == per_row.shape:
        return _mean(per_row, valid_BL)
    return per_row.mean()


def hidden_loss(student_BLD: Tensor, teacher_BLD: Tensor, valid_BL: Tensor | None = None) -> Tensor:
    """Mean squared error of one hidden state over valid tokens and features.

    Raises DistillationError when the shapes differ.
    """
    if student_BLD.shape != teacher_BLD.shape:
        raise DistillationError(
            f"hidden states differ in shape: student {tuple(student_BLD.shape)}, teacher {tuple(teacher_BLD.shape)}; "
            "both models must see the same tokens"
        )
    per_token = (student_BLD.float() - teacher_BLD.float()).square().mean(-1)
    return per_token.mean() if valid_BL is None else _mean(per_token, valid_BL)


def attention_score_loss(
    student_BHQK: Tensor, teacher_BHQK: Tensor, valid_B1QK: Tensor, total: Tensor | None = None
) -> Tensor:
    """XTC's attention loss for one layer: mean squared error of pre-softmax scores over heads and valid pairs.

    total: ``count_pairs`` of the whole batch where these are some rows of it.

    Raises DistillationError when the shapes differ.
    """
    _check_heads(student_BHQK, teacher_BHQK)
    # Zero before squaring: masked entries hold the most negative float.
    difference = (student_BHQK - teacher_BHQK).masked_fill(~valid_B1QK, 0.0)
    total = count_pairs(valid_B1QK) if total is None else total
    return difference.square().sum() / (total * student_BHQK.shape[1])


def attention_probability_loss(
    student_BHQK: Tensor, teacher_BHQK: Tensor, valid_B1QK: Tensor, total: Tensor | None = None
) -> Tensor:
    """KL(teacher || student) of the attention distributions, from pre-softmax scores, for one layer.

    Summed over keys and averaged over heads and valid queries (MiniLM, Wang et al., 2020; Kim et al., 2022
    find it better than a squared error, which is orders of magnitude smaller than the other parts).
    total: ``count_queries`` of the whole batch where these are some rows of it.

    Raises DistillationError when the shapes differ.
    """
    _check_heads(student_BHQK, teacher_BHQK)
    return _masked_kl(student_BHQK, teacher_BHQK, valid_B1QK, total)


def relation_loss(
    student_BLD: Tensor, teacher_BLD: Tensor, valid_B1QK: Tensor, heads: int, total: Tensor | None = None
) -> Tensor:
    """MiniLMv2's relation loss (Wang et al., 2021) of one kind of vector (queries, keys or values).

    Each side is split into ``heads`` relation heads of its own width d; the scaled dot products
    ``X X^T / sqrt(d)`` of all pairs of tokens are compared by KL(teacher || student), averaged over relation
    heads and valid tokens. The two widths may differ; both must be divisible by ``heads``.
    total: as in ``attention_probability_loss``.
    """
    return _masked_kl(_relations(student_BLD, heads), _relations(teacher_BLD, heads), valid_B1QK, total)


def relation_heads(*widths: int) -> int:
    """The most relation heads that divide all widths and leave at least 16 numbers per head, else 1.

    16 is MiniLMv2's choice: 48 heads for width 768, 64 for 1024.
    """
    common = math.gcd(*widths)
    fitting = [heads for heads in range(1, common + 1) if common % heads == 0 and min(widths) // heads >= 16]
    return max(fitting, default=1)


def _relations(x_BLD: Tensor, heads: int) -> Tensor:
    batch, length, width = x_BLD.shape
    x_BRLd = x_BLD.float().reshape(batch, length, heads, width // heads).transpose(1, 2)
    return x_BRLd @ x_BRLd.transpose(2, 3) / math.sqrt(width // heads)


def _masked_kl(student_BHQK: Tensor, teacher_BHQK: Tensor, valid_B1QK: Tensor, total: Tensor | None) -> Tensor:
    lowest = torch.finfo(torch.float32).min
    student = student_BHQK.masked_fill(~valid_B1QK, lowest)
    teacher = teacher_BHQK.masked_fill(~valid_B1QK, lowest)
    per_pair = _kl(student, teacher).masked_fill(~valid_B1QK, 0.0)
    total = count_queries(valid_B1QK) if total is None else total
    return per_pair.sum() / (total * student.shape[1])


def _kl(student: Tensor, teacher: Tensor) -> Tensor:
    log_s, log_t = F.log_softmax(student, dim=-1), F.log_softmax(teacher, dim=-1)
    return F.kl_div(log_s, log_t, reduction="none", log_target=True)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    return values.masked_fill(~valid, 0.0).sum() / count(valid)


def _check_heads(student_BHQK: Tensor, teacher_BHQK: Tensor) -> None:
    if student_BHQK.shape == teacher_BHQK.shape:
        return
    s, t = student_BHQK.shape, teacher_BHQK.shape
    if s[1] != t[1]:
        raise DistillationError(
            f"the student has {s[1]} attention heads, the teacher {t[1]}; "
            'set "attention_type": "relations", which needs no equal heads'
        )
    raise DistillationError(f"attention scores differ in shape: student {tuple(s)}, teacher {tuple(t)}")
