"""Converts a packed model to the float model that it represents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from xtc_ds.checkpoint import load
from xtc_ds.runtime import PackedConv2d, PackedEmbedding, PackedLayer

__all__ = ["dense_model"]


def dense_model(folder: Path) -> Any:
    """The model of a packed folder with decoded weights in ordinary float32 layers; inputs are not quantized."""
    model = load(folder)
    weights: dict[int, nn.Parameter] = {}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, PackedLayer):
                # Tied layers stay tied.
                weight = weights.setdefault(id(child.weight), nn.Parameter(child.dense_weight(), requires_grad=False))
                setattr(parent, name, _dense_layer(child, weight))
    # torch's own method, because transformers' override refuses quantized models.
    return nn.Module.float(model).eval()


def _dense_layer(layer: PackedLayer, weight: nn.Parameter) -> nn.Module:
    dense: nn.Module
    if isinstance(layer, PackedEmbedding):
        dense = nn.Embedding(layer.num_embeddings, layer.embedding_dim, layer.padding_idx, device="meta")
    elif isinstance(layer, PackedConv2d):
        like: nn.Conv2d = layer.__dict__["convolution"]
        dense = nn.Conv2d(
            like.in_channels, like.out_channels, like.kernel_size, like.stride, like.padding, like.dilation,  # type: ignore[arg-type]
            like.groups, bias=False, padding_mode=like.padding_mode, device="meta",
        )  # fmt: skip
    else:
        dense = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    bias: Tensor | None = getattr(layer, "bias", None)
    dense.weight = weight
    dense.bias = None if bias is None else nn.Parameter(bias.detach().float(), requires_grad=False)  # type: ignore[assignment]
    return dense
