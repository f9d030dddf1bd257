"""The attention losses of one pair of layers, in float32.

Shapes: B batch, L tokens, D width, H heads, Q queries, K keys, R relation heads.
``valid_*`` is True for pairs of tokens that count. A loss is a mean over these, so padding never changes it; the caller
sums over layers. No gradient flows to the teacher's tensors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xtc_ds.distillation.formulas.divergence import kl_divergence
from xtc_ds.distillation.token_masks import count_pairs, count_queries
from xtc_ds.errors import DistillationError

__all__ = [
    "attention_probability_loss",
    "attention_score_loss",
    "relation_heads",
    "relation_loss",
]


def attention_score_loss(
    student_BHQK: Tensor, teacher_BHQK: Tensor, valid_B1QK: Tensor, total: Tensor | None = None
) -> Tensor:
    """XTC's attention loss for one layer: mean squared error of pre-softmax scores over heads and valid pairs.

    total: ``count_pairs`` of the whole batch, if the tensors hold only some of its rows.

    Raises DistillationError if the shapes differ.
    """
    _check_heads(student_BHQK, teacher_BHQK)
    # Zero masked entries before squaring: they hold the most negative float.
    difference = (student_BHQK - teacher_BHQK).masked_fill(~valid_B1QK, 0.0)
    total = count_pairs(valid_B1QK) if total is None else total
    return difference.square().sum() / (total * student_BHQK.shape[1])


def attention_probability_loss(
    student_BHQK: Tensor, teacher_BHQK: Tensor, valid_B1QK: Tensor, total: Tensor | None = None
) -> Tensor:
    """KL(teacher || student) of the attention distributions, from pre-softmax scores, for one layer.

    Summed over keys and averaged over heads and valid queries (MiniLM, Wang et al., 2020; Kim et al., 2022
    find it better than a squared error, which is orders of magnitude smaller than the other parts).
    total: ``count_queries`` of the whole batch, if the tensors hold only some of its rows.

    Raises DistillationError if the shapes differ.
    """
    _check_heads(student_BHQK, teacher_BHQK)
    return _masked_kl(student_BHQK, teacher_BHQK, valid_B1QK, total)


def relation_loss(
    student_BLD: Tensor, teacher_BLD: Tensor, valid_B1QK: Tensor, heads: int, total: Tensor | None = None
) -> Tensor:
    """MiniLMv2's relation loss (Wang et al., 2021) for one kind of vector (queries, keys or values).

    Each side is split into ``heads`` relation heads of its own width d; the scaled dot products
    ``X X^T / sqrt(d)`` of all pairs of tokens are compared by KL(teacher || student), averaged over relation
    heads and valid tokens. The two widths may differ; both must be divisible by ``heads``.
    total: as in ``attention_probability_loss``.
    """
    return _masked_kl(_relations(student_BLD, heads), _relations(teacher_BLD, heads), valid_B1QK, total)


def relation_heads(*widths: int) -> int:
    """The largest number of relation heads that divides all widths and leaves at least 16 features per head, else 1.

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
    per_pair = kl_divergence(student, teacher).masked_fill(~valid_B1QK, 0.0)
    total = count_queries(valid_B1QK) if total is None else total
    return per_pair.sum() / (total * student.shape[1])


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
