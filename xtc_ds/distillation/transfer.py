"""The attention part: recorded attention of mapped layers, compared in the way the config asks.

Shapes as in ``losses``; G key/value heads, d width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from xtc_ds.config.model import AttentionType
from xtc_ds.distillation.attention import AttentionRecord
from xtc_ds.distillation.losses import (
    attention_probability_loss,
    attention_score_loss,
    relation_heads,
    relation_loss,
    valid_pairs,
)

__all__ = ["attention_loss"]


def attention_loss(
    student: Sequence[AttentionRecord],
    teacher: Sequence[AttentionRecord],
    attention_type: AttentionType,
    valid_BL: Tensor | None = None,
) -> Tensor:
    """Sum over mapped layers of the loss of ``attention_type``; pairs that a mask forbids do not count.

    For "relations" the losses of queries, keys and values are added (with rotary positions applied, with
    grouped key/value heads counted once).
    """
    losses = []
    for ours, theirs in zip(student, teacher, strict=True):
        pairs = valid_pairs(valid_BL, ours.allowed(), theirs.allowed())
        if attention_type == "scores":
            losses.append(attention_score_loss(ours.scores(), theirs.scores(), pairs))
        elif attention_type == "probabilities":
            losses.append(attention_probability_loss(ours.scores(), theirs.scores(), pairs))
        else:
            losses.append(_relations(ours, theirs, pairs))
    return torch.stack(losses).sum()


def _relations(ours: AttentionRecord, theirs: AttentionRecord, pairs: Tensor) -> Tensor:
    kinds = ((ours.query, theirs.query), (ours.key, theirs.key), (ours.value, theirs.value))
    vectors = [(_joined(s), _joined(t)) for s, t in kinds]
    heads = relation_heads(*(x.shape[-1] for pair in vectors for x in pair))
    return torch.stack([relation_loss(s, t, pairs, heads) for s, t in vectors]).sum()


def _joined(x_BGLd: Tensor) -> Tensor:
    return x_BGLd.transpose(1, 2).flatten(2)
