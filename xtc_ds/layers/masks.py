"""The masks of a pruned layer: where they are kept, when they are in force, and what they do to weight and bias.

Buffers and parameters have DeepSpeed's names, so that its checkpoints load. A mask holds 0 and 1 in the weight's
dtype; a learned one is made anew in every forward from its scores.

Shape legend: O and I = output and input features or channels, H = heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from xtc_ds.layer_kinds import layer_kind
from xtc_ds.layers.mask_values import PruningRule, initial_scores, mask_of, norms, technique_of
from xtc_ds.plan.rows import SparseRow, StructuredRow
from xtc_ds.pruning import GradualSchedule, SnipMomentum, parse_pattern, scored_product, straight_through
from xtc_ds.zero import gathered, is_partitioned

__all__ = [
    "SCORE_NAMES",
    "TENSOR_NAMES",
    "PrunedLayer",
    "PruningRule",
    "TensorNames",
    "add_pruning",
    "gradual_schedule",
    "remove_pruning",
]


class TensorNames(NamedTuple):
    """What a technique calls the buffer of a fixed mask, and the parameter of learned scores."""

    mask: str
    scores: str


TENSOR_NAMES = {
    "sparse_pruning": TensorNames("sparse_pruning_mask", "sparse_mask_scores"),
    "row_pruning": TensorNames("row_pruning_mask", "row_mask_scores"),
    "head_pruning": TensorNames("head_pruning_mask", "head_pruning_scores"),
    "channel_pruning": TensorNames("channel_pruning_mask", "channel_mask_scores"),
}
# The learned parameters.
SCORE_NAMES = frozenset(names.scores for names in TENSOR_NAMES.values())


class PrunedLayer:
    """Mixin: what a layer with ``pruning_rules`` multiplies with. The rules are applied in their order."""

    pruning_rules: tuple[PruningRule, ...] = ()
    # Applied optimizer steps; None before a schedule first sets them, when nothing is pruned.
    pruning_step: int | None = None
    # The learned mask of rows or channels that the last forward used, for layers that shrink along.
    unit_mask: Tensor | None = None
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

    def unit_mask_in_force(self, rule: StructuredRow) -> Tensor | None:
        """1 for each row or channel that the last forward kept, 0 for the others, (units,); None before the offset."""
        if self.pruning_step is None or self.pruning_step < rule.offset:
            return None
        fixed, learned = TENSOR_NAMES[f"{rule.technique}_pruning"]
        if rule.method != "topk":
            mask: Tensor = getattr(self, fixed)
            return mask.flatten()
        scores: Tensor = getattr(self, learned)
        # ZeRO-3 has the scores whole in the layer's own forward only.
        return self.unit_mask if is_partitioned(scores) else mask_of(rule, scores.detach()).flatten()

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
        fixed, learned = TENSOR_NAMES[technique_of(rule)]
        if rule.method != "topk":
            mask: Tensor = getattr(self, fixed)
            return mask
        scores: Tensor = getattr(self, learned)
        mask = mask_of(rule, scores.detach())
        if isinstance(rule, StructuredRow) and rule.related and is_partitioned(scores):
            self.unit_mask = mask.flatten()
        return straight_through(scores, mask)

    def _shipped_mask(self, rule: PruningRule) -> Tensor:
        learned = TENSOR_NAMES[technique_of(rule)][1]
        with gathered([getattr(self, learned)] if rule.method == "topk" else []), torch.no_grad():
            return self._mask(rule).detach()


def add_pruning(layer: PrunedLayer, rule: PruningRule) -> None:
    """Give ``layer`` a rule and what it needs: a mask from the weights as they are now, or scores to learn.

    With ZeRO-3 a call for all ranks.
    """
    assert isinstance(layer, nn.Module)
    fixed, learned = TENSOR_NAMES[technique_of(rule)]
    weight: Tensor = layer.weight  # type: ignore[assignment]
    with gathered([weight]), torch.no_grad():
        w = layer_kind(rule.kind).outputs_first(weight.detach())
        if rule.method == "topk":
            layer.register_parameter(learned, nn.Parameter(initial_scores(rule, w)))
        elif rule.method == "l1":
            layer.register_buffer(fixed, mask_of(rule, norms(rule, w)).contiguous())
        else:
            assert isinstance(rule, SparseRow)
            layer.register_buffer(fixed, torch.ones(rule.shape, dtype=w.dtype, device=w.device))
            layer.snip_momentum = SnipMomentum(parse_pattern(rule.block_pattern), rule.shape, w.device)
    layer.pruning_rules = (*layer.pruning_rules, rule)


def remove_pruning(layer: PrunedLayer) -> None:
    """Take rules, masks and scores off a layer whose weight holds their result."""
    assert isinstance(layer, nn.Module)
    for fixed, learned in TENSOR_NAMES.values():
        layer._buffers.pop(fixed, None)
        layer._parameters.pop(learned, None)
    layer._modules.pop("snip_momentum", None)
    for name in ("pruning_rules", "pruning_step", "unit_mask", "pruned_source"):
        layer.__dict__.pop(name, None)


def gradual_schedule(rule: SparseRow) -> GradualSchedule:
    """When and how far the mask of snip_momentum thins out."""
    return GradualSchedule(rule.offset, rule.end, rule.stride, rule.dense_ratio)
