"""What masks are made from: norms of weights, or scores that are learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from xtc_ds.plan.rows import SparseRow, StructuredRow
from xtc_ds.pruning import channel_norms, head_norms, parse_pattern, row_norms, top_mask

__all__ = ["PruningRule", "initial_scores", "mask_of", "norms", "technique_of"]

PruningRule = SparseRow | StructuredRow


def technique_of(rule: PruningRule) -> str:
    """The name of the rule's technique."""
    return f"{'sparse' if isinstance(rule, SparseRow) else rule.technique}_pruning"


def norms(rule: PruningRule, w: Tensor) -> Tensor:
    """How large each weight (sparse), row, head or channel of ``w`` is, outputs first."""
    if isinstance(rule, SparseRow):
        return w.abs()
    if rule.technique == "head":
        return head_norms(w, rule.units)
    return row_norms(w) if rule.technique == "row" else channel_norms(w)


def initial_scores(rule: PruningRule, w: Tensor) -> Tensor:
    """Random scores to start from, in the dtype and on the device of the weight."""
    if isinstance(rule, SparseRow):
        shape = rule.shape
    elif rule.technique == "head":
        shape = (1, rule.units)
    else:
        shape = (rule.units, *[1] * (len(rule.shape) - 1))
    return nn.init.kaiming_uniform_(torch.empty(shape, dtype=w.dtype, device=w.device), a=math.sqrt(5))


def mask_of(rule: PruningRule, scores: Tensor) -> Tensor:
    """The mask that scores of single weights (sparse) or of units lead to."""
    if isinstance(rule, StructuredRow):
        return top_mask(scores, rule.kept)
    pattern = parse_pattern(rule.block_pattern)
    return pattern.mask(pattern.unit_scores(scores), rule.dense_ratio, rule.shape)
