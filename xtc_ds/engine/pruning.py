"""What pruning needs of the training engine: equal masks on all ranks, and the steps of snip_momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from xtc_ds.distributed import world_size
from xtc_ds.layers import CompressedLayer, compressed_layers
from xtc_ds.layers.masks import gradual_schedule
from xtc_ds.plan.rows import SparseRow
from xtc_ds.pruning import SnipMomentum

__all__ = ["average_scores", "broadcast_masks", "end_step", "forget_step", "loss_scale"]

_MASKS = ("sparse_pruning_mask", "row_pruning_mask", "head_pruning_mask", "channel_pruning_mask")


def broadcast_masks(model: nn.Module) -> None:
    """Give all ranks the masks of rank 0, as DeepSpeed does with its weights: one collective, a call for all."""
    masks = [b for _, layer in compressed_layers(model) for n, b in _buffers(layer) if n in _MASKS]
    if world_size() == 1 or not masks:
        return
    flat = torch.cat([mask.flatten().to(torch.uint8) for mask in masks])
    dist.broadcast(flat, 0)
    _scatter(flat, masks)


def end_step(model: nn.Module, step: int, scale: float) -> None:
    """After applied step ``step``: take the saliencies into the scores, and renew the masks that are due.

    scale: the loss scale of the backward passes. Scores are averaged over the ranks only when masks are renewed.
    """
    layers = list(_scored_layers(model))
    for layer, rule in layers:
        if step <= gradual_schedule(rule).last:
            _momentum(layer).take_in(scale)
    due = [layer for layer, rule in layers if gradual_schedule(rule).is_due(step)]
    _average(due)
    for layer in due:
        layer.renew_sparse_mask(step)


def forget_step(model: nn.Module) -> None:
    """Drop the saliencies of a step that was skipped for an overflow, or of one that a loaded checkpoint ended."""
    for layer, _ in _scored_layers(model):
        _momentum(layer).discard()


def average_scores(model: nn.Module) -> None:
    """Make the scores equal on all ranks, for a checkpoint that one of them writes (a call for all ranks)."""
    _average([layer for layer, _ in _scored_layers(model)])


def loss_scale(engine: Any) -> float:
    """The factor by which the backward passes of ``engine`` multiply the loss now; 1 unless it trains in fp16.

    It is asked for as ``engine.backward`` does: DeepSpeed's fp16 optimizers without ZeRO hold a scale that no loss is
    multiplied with.
    """
    from deepspeed.runtime.base_optimizer import ZeROOptimizer

    one = torch.ones((), device=engine.device, requires_grad=True) * 1
    if isinstance(engine.optimizer, ZeROOptimizer):
        return float(engine.optimizer.scale_if_loss(one).detach())
    scaler = getattr(engine, "torch_autocast_z0_gradscaler", None)
    return 1.0 if scaler is None else float(scaler.scale(one).detach())


def _scored_layers(model: nn.Module) -> Iterable[tuple[CompressedLayer, SparseRow]]:
    for _, layer in compressed_layers(model):
        for rule in layer.pruning_rules:
            if isinstance(rule, SparseRow) and rule.method == "snip_momentum":
                yield layer, rule


def _average(layers: list[CompressedLayer]) -> None:
    if world_size() == 1 or not layers:
        return
    scores = [_momentum(layer).scores for layer in layers]
    flat = torch.cat([score.flatten() for score in scores])
    dist.all_reduce(flat)
    _scatter(flat / world_size(), scores)


def _momentum(layer: CompressedLayer) -> SnipMomentum:
    momentum: SnipMomentum = layer.snip_momentum  # type: ignore[attr-defined]
    return momentum


def _buffers(layer: CompressedLayer) -> Iterable[tuple[str, Tensor]]:
    assert isinstance(layer, nn.Module)
    return layer.named_buffers(recurse=False)


def _scatter(flat: Tensor, targets: list[Tensor]) -> None:
    parts = torch.split(flat, [target.numel() for target in targets])
    for target, part in zip(targets, parts, strict=True):
        target.copy_(part.view(target.shape))
