"""Losses against slow references with explicit loops."""

from __future__ import annotations

import math

import pytest
import torch
from distillation_models import close
from torch import Tensor

from xtc_ds.distillation.formulas.attention import (
    attention_probability_loss,
    attention_score_loss,
    relation_heads,
    relation_loss,
)
from xtc_ds.distillation.formulas.hidden import hidden_loss
from xtc_ds.distillation.formulas.logits import logits_loss, task_of
from xtc_ds.distillation.token_masks import valid_pairs
from xtc_ds.errors import DistillationError

LOWEST = torch.finfo(torch.float32).min


def slow_kl(teacher: list[float], student: list[float]) -> float:
    def softmax(x: list[float]) -> list[float]:
        exps = [math.exp(v - max(x)) for v in x]
        return [e / sum(exps) for e in exps]

    return sum(p * (math.log(p) - math.log(q)) for p, q in zip(softmax(teacher), softmax(student), strict=True))


def tokens(lengths: tuple[int, ...], total: int) -> Tensor:
    return torch.arange(total)[None] < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_classification_is_tempered_kl_averaged_over_the_batch(temperature: float) -> None:
    s, t = torch.randn(4, 3), torch.randn(4, 3)
    rows = [slow_kl((t[b] / temperature).tolist(), (s[b] / temperature).tolist()) for b in range(4)]
    close(logits_loss(s, t, "classification", temperature), temperature**2 * sum(rows) / 4)


def test_classification_has_the_gradient_of_soft_cross_entropy() -> None:
    s, t = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    ours = torch.autograd.grad(logits_loss(s, t, "classification"), s)[0]
    soft = -(t.softmax(-1) * s.log_softmax(-1)).sum(-1).mean()
    close(ours, torch.autograd.grad(soft, s)[0])


def test_multi_label_has_the_gradient_of_bce_with_soft_targets_and_is_zero_when_equal() -> None:
    s, t = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    ours = torch.autograd.grad(logits_loss(s, t, "multi_label"), s)[0]
    bce = torch.nn.functional.binary_cross_entropy_with_logits(s, t.sigmoid())
    close(ours, torch.autograd.grad(bce, s)[0])
    close(logits_loss(t, t, "multi_label", 3.0), 0.0)


def test_regression_is_mean_squared_error_at_any_temperature() -> None:
    s, t = torch.randn(5, 1), torch.randn(5, 1)
    close(logits_loss(s, t, "regression", 4.0), float(((s - t) ** 2).mean()))


def test_token_logits_skip_padding() -> None:
    s, t, valid = torch.randn(2, 4, 5), torch.randn(2, 4, 5), tokens((4, 2), 4)
    rows = [slow_kl(t[b, i].tolist(), s[b, i].tolist()) for b in range(2) for i in range(4) if valid[b, i]]
    close(logits_loss(s, t, "classification", 1.0, valid), sum(rows) / 6)


def test_logits_of_other_shape_are_refused() -> None:
    with pytest.raises(DistillationError, match=r"\(2, 3\).*\(2, 2\)"):
        logits_loss(torch.zeros(2, 3), torch.zeros(2, 2), "classification")


def test_hidden_loss_is_the_mean_over_real_tokens_and_features() -> None:
    s, t, valid = torch.randn(2, 4, 3), torch.randn(2, 4, 3), tokens((4, 1), 4)
    squares = [
        float((s[b, i, d] - t[b, i, d]) ** 2) for b in range(2) for i in range(4) for d in range(3) if valid[b, i]
    ]
    close(hidden_loss(s, t, valid), sum(squares) / len(squares))
    close(hidden_loss(s, t), float(((s - t) ** 2).mean()))


def masked_scores(valid: Tensor) -> tuple[Tensor, Tensor]:
    shape = (2, 3, 4, 4)
    return tuple(torch.randn(shape).masked_fill(~valid, LOWEST) for _ in range(2))  # type: ignore[return-value]


def causal_pairs() -> Tensor:
    causal = torch.ones(4, 4, dtype=torch.bool).tril().expand(2, 1, 4, 4)
    return valid_pairs(tokens((4, 2), 4), causal)


def test_score_loss_counts_pairs_that_may_attend_and_are_not_padding() -> None:
    valid = causal_pairs()
    s, t = masked_scores(valid)
    squares = [
        float((s[b, h, q, k] - t[b, h, q, k]) ** 2)
        for b in range(2) for h in range(3) for q in range(4) for k in range(q + 1) if q < (4, 2)[b]
    ]  # fmt: skip
    close(attention_score_loss(s, t, valid), sum(squares) / len(squares))


def test_probability_loss_is_kl_over_keys_averaged_over_real_queries() -> None:
    valid = causal_pairs()
    s, t = masked_scores(valid)
    rows = [
        slow_kl(t[b, h, q, : q + 1].tolist(), s[b, h, q, : q + 1].tolist())
        for b in range(2) for h in range(3) for q in range(4) if q < (4, 2)[b]
    ]  # fmt: skip
    close(attention_probability_loss(s, t, valid), sum(rows) / len(rows))


def test_relation_loss_splits_both_widths_into_the_same_heads() -> None:
    valid = causal_pairs()
    s, t = torch.randn(2, 4, 6), torch.randn(2, 4, 10)
    rows = []
    for b in range(2):
        for r in range(2):
            ours, theirs = s[b, :, r * 3 : r * 3 + 3], t[b, :, r * 5 : r * 5 + 5]
            for q in range((4, 2)[b]):
                one = [float(ours[q] @ ours[k]) / math.sqrt(3) for k in range(q + 1)]
                other = [float(theirs[q] @ theirs[k]) / math.sqrt(5) for k in range(q + 1)]
                rows.append(slow_kl(other, one))
    close(relation_loss(s, t, valid, 2), sum(rows) / len(rows))


def test_gradients_are_finite_and_zero_at_masked_entries() -> None:
    valid = causal_pairs()
    for loss in (attention_score_loss, attention_probability_loss):
        s, t = masked_scores(valid)
        s.requires_grad_()
        loss(s, t, valid).backward()
        assert s.grad is not None
        assert bool(s.grad.isfinite().all())
        assert not bool((s.grad != 0)[~valid.expand_as(s)].any())


@pytest.mark.parametrize(
    ("widths", "heads"), [((768, 768), 48), ((384, 768), 24), ((1024, 1024), 64), ((32, 8), 1), ((96, 40), 2)]
)
def test_relation_heads_leave_sixteen_numbers_each(widths: tuple[int, int], heads: int) -> None:
    assert relation_heads(*widths) == heads


def test_heads_that_differ_name_the_remedy() -> None:
    valid = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    with pytest.raises(DistillationError, match="relations"):
        attention_score_loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4), valid)


def test_nothing_valid_is_zero_not_nan() -> None:
    none = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    x = torch.randn(1, 2, 3, 3)
    assert float(attention_score_loss(x, -x, none)) == 0.0
    assert float(attention_probability_loss(x, -x, none)) == 0.0


@pytest.mark.parametrize(
    ("problem", "labels", "task"),
    [
        (None, 1, "regression"),
        (None, 3, "classification"),
        ("regression", 3, "regression"),
        ("multi_label_classification", 3, "multi_label"),
        ("single_label_classification", 2, "classification"),
    ],
)
def test_the_task_follows_the_problem_type_then_the_labels(problem: str | None, labels: int, task: str) -> None:
    assert task_of(problem, labels) == task
