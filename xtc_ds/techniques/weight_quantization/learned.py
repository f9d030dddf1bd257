"""Add learned parts of weight formats to layers and optimizers, and make them equal on all ranks."""

from __future__ import annotations

from collections.abc import Iterator

import torch.distributed as dist
from torch import Tensor, nn

from xtc_ds.distributed import world_size
from xtc_ds.layers import CompressedLayer, compressed_layers
from xtc_ds.techniques.weight_quantization.learned_parts import LEARNED_PARTS, LearnedParts, learned_parts_of
from xtc_ds.techniques.weight_quantization.rows import WeightRow

__all__ = ["add_learned_parts", "broadcast_learned_parts", "learned_parameters"]


def add_learned_parts(layer: CompressedLayer, row: WeightRow, known: dict[int, LearnedParts]) -> None:
    """Add the learned parts of the format to ``layer``; layers that share a weight share its parts, too.

    known: id of a weight to the parts added to earlier layers; updated in place.
    """
    if not row.target_format.learned:
        return
    weight: Tensor = layer.weight  # type: ignore[attr-defined]
    if id(weight) not in known:
        fixed = row.assignment == "fixed"
        known[id(weight)] = LearnedParts(row.target_format, row.grouping, row.shape, fixed, weight)
    layer.add_module(LEARNED_PARTS, known[id(weight)])  # type: ignore[attr-defined]


def learned_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Parameter | None]]:
    """(name, parameter, the weight it belongs to) for each learned parameter, without duplicates."""
    seen: set[int] = set()
    for name, layer in compressed_layers(model):
        learned = learned_parts_of(layer)
        if learned is not None and id(learned) not in seen:
            seen.add(id(learned))
            for key, parameter in learned.named_parameters(prefix=f"{name}.{LEARNED_PARTS}".lstrip(".")):
                yield key, parameter, layer.weight  # type: ignore[attr-defined]


def broadcast_learned_parts(model: nn.Module) -> None:
    """Broadcast rank 0's initial values and codes, in place, as DeepSpeed does with weights. All ranks call this."""
    if world_size() == 1:
        return
    for module in model.modules():
        if isinstance(module, LearnedParts):
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)
