"""The masks of a pruned layer: where they are kept, when they are in force, and what they do to weight and bias.

Buffers and parameters have DeepSpeed's names, so that its checkpoints load. A mask holds 0 and 1 in the weight's
dtype; a learned one is made anew in every forward from its scores.

Shape legend: O and I = output and input features or channels, H = heads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from xtc_ds.plan.rows import SparseRow, StructuredRow
from xtc_ds.pruning import (
    GradualSchedule,
    SnipMomentum,
    channel_norms,
    head_norms,
    parse_pattern,
    row_norms,
    scored_product,
    straight_through,
    top_mask,
)
from xtc_ds.zero import gathered

__all__ = ["SCORE_NAMES", "PrunedLayer", "PruningRule", "add_pruning", "gradual_schedule", "remove_pruning"]

PruningRule = SparseRow | StructuredRow

# Technique to (buffer of a fixed mask, parameter of learned scores).
_NAMES = {
    "sparse": ("sparse_pruning_mask", "sparse_mask_scores"),
    "row": ("row_pruning_mask", "row_mask_scores"),
    "head": ("head_pruning_mask", "head_pruning_scores"),
    "channel": ("channel_pruning_mask", "channel_mask_scores"),
}
# The learned parameters.
SCORE_NAMES = frozenset(scores for _, scores in _NAMES.values())


class PrunedLayer:
    """Mixin: what a layer with ``pruning_rules`` multiplies with. The rules are applied in their order."""

    pruning_rules: tuple[PruningRule, ...] = ()
    # Applied optimizer steps; None before a schedule first sets them, when nothing is pruned.
    pruning_step: int | None = None
    training: bool

    def pruned(self, w: Tensor, bias_O: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Weight (O, I) or (O, I, kH, kW) and bias with all masks that are in force multiplied in."""
        for rule in self.pruning_rules:
            w, bias_O = self._masked(rule, w, bias_O)
        return w, bias_O

    def sparse_mask(self) -> Tensor | None:
        """The mask of sparse pruning as it would be shipped now, bool, outputs first; None without the technique.

        That of snip_momentum is the one of its last renewal. With ZeRO-3 a call for all ranks.
        """
        rule = next((rule for rule in self.pruning_rules if isinstance(rule, SparseRow)), None)
        return None if rule is None else self._shipped_mask(rule).bool()

    def kept_units(self, row: StructuredRow) -> Tensor:
        """Which rows, heads or channels stay, bool, (units,). With ZeRO-3 a call for all ranks."""
        return self._shipped_mask(row).flatten().bool()

    def kept_inputs(self) -> Tensor | None:
        """Indices of the inputs that a frozen layer gets, int64, while heads that will be cut out are masked.

        None where it gets all. To be called in the layer's forward.
        """
        step = self.pruning_step
        for rule in self.pruning_rules:
            if isinstance(rule, StructuredRow) and rule.technique == "head" and rule.related:
                if step is None or step < rule.offset:
                    return None
                kept = self._mask(rule).detach().flatten().bool()
                return kept.repeat_interleave(rule.shape[1] // rule.units).nonzero().flatten()
        return None

    def renew_sparse_mask(self, step: int) -> None:
        """Rebuild the mask of snip_momentum from its scores, as dense as ``step`` asks for."""
        rule = next(rule for rule in self.pruning_rules if isinstance(rule, SparseRow))
        momentum: SnipMomentum = self.snip_momentum  # type: ignore[attr-defined]
        ratio = gradual_schedule(rule).dense_ratio_at(step)
        self.sparse_pruning_mask: Tensor
        self.sparse_pruning_mask.copy_(momentum.pattern.mask(momentum.scores, ratio, rule.shape))

    def _masked(self, rule: PruningRule, w: Tensor, bias_O: Tensor | None) -> tuple[Tensor, Tensor | None]:
        step = self.pruning_step
        if step is None:
            return w, bias_O
        if rule.method == "snip_momentum":
            assert isinstance(rule, SparseRow)
            if self.training and step < gradual_schedule(rule).last and torch.is_grad_enabled():
                return scored_product(w, self.sparse_pruning_mask.to(w.dtype), self.snip_momentum), bias_O  # type: ignore[attr-defined]
        if step < rule.offset:
            return w, bias_O
        mask = self._mask(rule).to(w.dtype)
        if isinstance(rule, SparseRow):
            return w * mask, bias_O
        if rule.technique == "head":
            # Heads are blocks of inputs. This order of operations gives DeepSpeed's gradients to the last bit.
            return (w.t().reshape(rule.units, -1) * mask.view(-1, 1)).reshape(w.shape[1], w.shape[0]).t(), bias_O
        rows = mask.view(-1, *[1] * (w.dim() - 1))
        return w * rows, None if bias_O is None else bias_O * mask.view(-1)

    def _mask(self, rule: PruningRule) -> Tensor:
        fixed, learned = _NAMES[_technique(rule)]
        if rule.method != "topk":
            mask: Tensor = getattr(self, fixed)
            return mask
        scores: Tensor = getattr(self, learned)
        return straight_through(scores, _mask_of(rule, scores.detach()))

    def _shipped_mask(self, rule: PruningRule) -> Tensor:
        learned = _NAMES[_technique(rule)][1]
        with gathered([getattr(self, learned)] if rule.method == "topk" else []), torch.no_grad():
            return self._mask(rule).detach()


def add_pruning(layer: PrunedLayer, rule: PruningRule) -> None:
    """Give ``layer`` a rule and what it needs: a mask from the weights as they are now, or scores to learn.

    With ZeRO-3 a call for all ranks.
    """
    assert isinstance(layer, nn.Module)
    fixed, learned = _NAMES[_technique(rule)]
    weight: Tensor = layer.weight  # type: ignore[assignment]
    with gathered([weight]), torch.no_grad():
        w = weight.detach()
        w = w.t() if rule.kind == "Conv1D" else w
        if rule.method == "topk":
            layer.register_parameter(learned, nn.Parameter(_initial_scores(rule, w)))
        elif rule.method == "l1":
            layer.register_buffer(fixed, _mask_of(rule, _norms(rule, w)).contiguous())
        else:
            assert isinstance(rule, SparseRow)
            layer.register_buffer(fixed, torch.ones(rule.shape, dtype=w.dtype, device=w.device))
            layer.snip_momentum = SnipMomentum(parse_pattern(rule.block_pattern), rule.shape, w.device)
    layer.pruning_rules = (*layer.pruning_rules, rule)


def remove_pruning(layer: PrunedLayer) -> None:
    """Take rules, masks and scores off a layer whose weight holds their result."""
    assert isinstance(layer, nn.Module)
    for fixed, learned in _NAMES.values():
        layer._buffers.pop(fixed, None)
        layer._parameters.pop(learned, None)
    layer._modules.pop("snip_momentum", None)
    for name in ("pruning_rules", "pruning_step"):
        layer.__dict__.pop(name, None)


def gradual_schedule(rule: SparseRow) -> GradualSchedule:
    """When and how far the mask of snip_momentum thins out."""
    return GradualSchedule(rule.offset, rule.end, rule.stride, rule.dense_ratio)


def _technique(rule: PruningRule) -> str:
    return "sparse" if isinstance(rule, SparseRow) else rule.technique


def _norms(rule: PruningRule, w: Tensor) -> Tensor:
    if isinstance(rule, SparseRow):
        return w.abs()
    if rule.technique == "head":
        return head_norms(w, rule.units)
    return row_norms(w) if rule.technique == "row" else channel_norms(w)


def _initial_scores(rule: PruningRule, w: Tensor) -> Tensor:
    if isinstance(rule, SparseRow):
        shape = rule.shape
    elif rule.technique == "head":
        shape = (1, rule.units)
    else:
        shape = (rule.units, *[1] * (len(rule.shape) - 1))
    return nn.init.kaiming_uniform_(torch.empty(shape, dtype=w.dtype, device=w.device), a=math.sqrt(5))


def _mask_of(rule: PruningRule, scores: Tensor) -> Tensor:
    """The mask that scores of single weights (sparse) or of units lead to."""
    if isinstance(rule, StructuredRow):
        return top_mask(scores, rule.kept)
    pattern = parse_pattern(rule.block_pattern)
    return pattern.mask(pattern.unit_scores(scores), rule.dense_ratio, rule.shape)
