"""Losses that are formed some rows at a time: the same numbers, and nothing large kept."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

import xtc_ds.distillation.formulas.attention_records as attention_records
from xtc_ds.distillation.attention_record import AttentionRecord
from xtc_ds.distillation.formulas.attention_records import attention_loss
from xtc_ds.distillation.formulas.row_by_row import sum_over_rows
from xtc_ds.distillation.losses.attention import AttentionType

KINDS: tuple[AttentionType, ...] = ("scores", "probabilities", "relations")


def record(seed: int, grad: bool, batch: int = 5, length: int = 7, bias: bool = False) -> AttentionRecord:
    generator = torch.Generator().manual_seed(seed)

    def vectors(heads: int) -> Tensor:
        return torch.randn(batch, heads, length, 16, generator=generator).requires_grad_(grad)

    mask = torch.zeros(batch, 1, 1, length)
    mask[1, ..., -2:] = torch.finfo(torch.float32).min
    shared = torch.randn(1, 4, length, length, generator=generator).requires_grad_(grad) if bias else None
    return AttentionRecord(vectors(4), vectors(2), vectors(2), mask, 0.25, bias=shared)


def leaves(record: AttentionRecord) -> list[Tensor]:
    return [x for x in (record.query, record.key, record.value, record.bias) if x is not None and x.requires_grad]


def learned(kind: AttentionType, rows: int, monkeypatch: pytest.MonkeyPatch, bias: bool = False) -> list[Tensor]:
    monkeypatch.setattr(attention_records, "_rows_at_a_time", lambda like, numbers: rows)
    ours, theirs = record(1, True, bias=bias), record(2, False)
    valid = torch.ones(5, 7, dtype=torch.bool)
    valid[1, -2:] = False
    loss = attention_loss([(ours, theirs)], kind, valid)
    found = torch.autograd.grad(3 * loss, leaves(ours), allow_unused=True)
    return [loss.detach(), *(x for x in found if x is not None)]


def whole(part: Any, rows: int, at_a_time: int, tensors: Any) -> Tensor:
    result: Tensor = part(slice(0, rows), tuple(tensors))
    return result


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 5, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_loss_and_gradients(
    kind: AttentionType, rows: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "relations" and bias:
        pytest.skip("relations look at no bias")
    found = learned(kind, rows, monkeypatch, bias)
    monkeypatch.setattr(attention_records, "sum_over_rows", whole)
    expected = learned(kind, rows, monkeypatch, bias)
    assert len(found) == len(expected) == {"relations": 4}.get(kind, 3 + bias)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_no_scores_are_kept_for_the_backward(kind: AttentionType) -> None:
    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    kept: weakref.WeakSet[Kept] = weakref.WeakSet()

    def pack(tensor: Tensor) -> Kept:
        holder = Kept(tensor)
        kept.add(holder)
        return holder

    ours, theirs = record(1, True, length=48), record(2, False, length=48)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda holder: holder.tensor):
        loss = attention_loss([(ours, theirs)], kind)
    gc.collect()
    assert loss.requires_grad
    assert 0 < max(holder.tensor.numel() for holder in kept) <= ours.query.numel()


def test_each_layer_is_let_go_before_the_next() -> None:
    alive: list[str] = []

    def layers() -> Any:
        for name in ("first", "second"):
            alive.append(name)
            yield record(1, True), record(2, False)

    def watched(part: Any, rows: int, at_a_time: int, tensors: Any) -> Tensor:
        seen.append(list(alive))
        return sum_over_rows(part, rows, at_a_time, tensors)

    seen: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_records, "sum_over_rows", watched)
        attention_loss(layers(), "scores")
    assert seen == [["first"], ["first", "second"]]


def test_without_gradients_and_in_sixteen_bits() -> None:
    ours, theirs = record(1, True), record(2, False)
    expected = attention_loss([(ours, theirs)], "scores").detach()
    with torch.no_grad():
        assert torch.allclose(attention_loss([(ours, theirs)], "scores"), expected)
    half = AttentionRecord(*(x.detach().bfloat16().requires_grad_() for x in leaves(ours)[:3]), ours.mask, 0.25)
    loss = attention_loss([(half, theirs)], "scores")
    loss.backward()  # type: ignore[no-untyped-call]
    assert half.query.grad is not None
    assert half.query.grad.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert torch.allclose(loss.detach(), expected, rtol=0.02)


def test_small_gradients_of_float16_wait_for_the_loss_scale() -> None:
    """They are below float16's smallest number until the loss scale is multiplied in."""
    x = torch.ones(4, 8, dtype=torch.float16, requires_grad=True)

    def part(_: slice, tensors: tuple[Tensor | None, ...]) -> Tensor:
        assert tensors[0] is not None
        return 1e-9 * tensors[0].float().sum()

    (2.0**16 * sum_over_rows(part, 4, 2, [x])).backward()
    assert x.grad is not None and x.grad.dtype == torch.float16
    assert torch.allclose(x.grad.float(), torch.full((4, 8), 1e-9 * 2.0**16), rtol=1e-2, atol=0)
