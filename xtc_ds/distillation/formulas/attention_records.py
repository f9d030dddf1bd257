"""The attention losses of recorded layers, computed layer by layer for some rows of the batch at a time.

Shapes as in ``formulas.attention``; G key/value heads, d width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xtc_ds.distillation.attention_record import AttentionRecord
from xtc_ds.distillation.formulas.attention import (
    attention_probability_loss,
    attention_score_loss,
    relation_heads,
    relation_loss,
)
from xtc_ds.distillation.formulas.row_by_row import sum_over_rows
from xtc_ds.distillation.token_masks import count_pairs, count_queries, valid_pairs

if TYPE_CHECKING:
    from xtc_ds.distillation.losses.attention import AttentionType

__all__ = ["attention_loss"]

# Elements of one tensor of scores: about what fits in a CPU's cache; on other devices, a small share of memory.
_AT_A_TIME = {"cpu": 1 << 19}
_AT_A_TIME_ELSEWHERE = 1 << 25

_Scores = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def attention_loss(
    pairs_of_layers: Iterable[tuple[AttentionRecord, AttentionRecord]],
    attention_type: AttentionType,
    valid_BL: Tensor | None = None,
) -> Tensor:
    """The loss of ``attention_type``, summed over the (student, teacher) pairs of layers; masked pairs do not count.

    For "relations" the losses of queries, keys and values are added (with rotary positions applied, and grouped
    key/value heads counted once). Each pair of layers is processed before the next is requested.
    """
    losses = []
    for ours, theirs in pairs_of_layers:
        pairs = valid_pairs(valid_BL, ours.allowed(), theirs.allowed())
        if attention_type == "scores":
            losses.append(_of_scores(attention_score_loss, ours, theirs, pairs, count_pairs(pairs)))
        elif attention_type == "probabilities":
            losses.append(_of_scores(attention_probability_loss, ours, theirs, pairs, count_queries(pairs)))
        else:
            losses.append(_relations(ours, theirs, pairs))
    return torch.stack(losses).sum()


def _of_scores(
    loss: _Scores, ours: AttentionRecord, theirs: AttentionRecord, pairs_B1QK: Tensor, count: Tensor
) -> Tensor:
    batch, heads, queries, keys = *ours.query.shape[:3], ours.key.shape[2]

    def part(rows: slice, tensors: tuple[Tensor | None, ...]) -> Tensor:
        query, key, mask, bias = tensors
        assert query is not None
        assert key is not None
        mine = replace(ours, query=query, key=key, value=None, mask=mask, bias=bias)
        return loss(mine.scores(), _of_rows(theirs, rows).scores(), pairs_B1QK[rows], count)

    tensors = (ours.query, ours.key, ours.mask, ours.bias)
    return sum_over_rows(part, batch, _rows_at_a_time(ours.query, heads * queries * keys), tensors)


def _relations(ours: AttentionRecord, theirs: AttentionRecord, pairs_B1QK: Tensor) -> Tensor:
    kinds = ((ours.query, theirs.query), (ours.key, theirs.key), (ours.value, theirs.value))
    vectors = [(_joined(s), _joined(t)) for s, t in kinds if s is not None and t is not None]
    heads = relation_heads(*(x.shape[-1] for pair in vectors for x in pair))
    count = count_queries(pairs_B1QK)

    def part(rows: slice, tensors: tuple[Tensor | None, ...]) -> Tensor:
        pairs = zip(tensors, vectors, strict=True)
        losses = [relation_loss(s, t[rows], pairs_B1QK[rows], heads, count) for s, (_, t) in pairs if s is not None]
        return torch.stack(losses).sum()

    batch, length, _ = vectors[0][0].shape
    return sum_over_rows(part, batch, _rows_at_a_time(ours.query, heads * length**2), [s for s, _ in vectors])


def _rows_at_a_time(like: Tensor, numbers_in_a_row: int) -> int:
    return max(1, _AT_A_TIME.get(like.device.type, _AT_A_TIME_ELSEWHERE) // max(1, numbers_in_a_row))


def _of_rows(record: AttentionRecord, rows: slice) -> AttentionRecord:
    def cut(x: Tensor | None) -> Tensor | None:
        return x[rows] if x is not None and x.shape[0] == record.query.shape[0] else x

    mask, bias = cut(record.mask), cut(record.bias)
    return replace(record, query=record.query[rows], key=record.key[rows], value=None, mask=mask, bias=bias)


def _joined(x_BGLd: Tensor) -> Tensor:
    return x_BGLd.transpose(1, 2).flatten(2)
