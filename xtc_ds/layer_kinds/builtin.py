"""The built-in layer kinds."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from xtc_ds.layer_kinds.kind import LayerKind

__all__ = ["BUILTIN", "exactly"]


def exactly(cls: type[nn.Module]) -> Callable[[nn.Module], bool]:
    """A test whether a module is of exactly this class; a subclass may have another forward, so it does not match."""
    return lambda module: type(module) is cls


def _is_conv1d(module: nn.Module) -> bool:
    # Compared by name, because importing transformers is slow.
    return (type(module).__module__, type(module).__name__) == ("transformers.pytorch_utils", "Conv1D")


BUILTIN = (
    LayerKind(
        "Linear",
        exactly(nn.Linear),
        "linear",
        {"weight": ("out", "in"), "bias": ("out",)},
        {"out_features": 0, "in_features": 1},
        base=nn.Linear,
        packed="linear",
    ),
    LayerKind(
        "Embedding",
        exactly(nn.Embedding),
        "embedding",
        {"weight": (None, "out")},
        {"num_embeddings": 0, "embedding_dim": 1},
        base=nn.Embedding,
        packed="embedding",
    ),
    LayerKind(
        "Conv1D",
        _is_conv1d,
        "linear",
        {"weight": ("out", "in"), "bias": ("out",)},
        {"nf": 0, "nx": 1},
        stored_order=(1, 0),
        packed="linear",
    ),
    LayerKind(
        "Conv2d",
        exactly(nn.Conv2d),
        "convolution",
        {"weight": ("out", "in", None, None), "bias": ("out",)},
        {"out_channels": 0, "in_channels": 1},
        feature_dim=-3,
        base=nn.Conv2d,
        packed="conv2d",
    ),
    LayerKind(
        "BatchNorm2d",
        exactly(nn.BatchNorm2d),
        "norm",
        {
            "weight": ("features",),
            "bias": ("features",),
            "running_mean": ("features",),
            "running_var": ("features",),
            "num_batches_tracked": (),
        },
        {"num_features": 0},
        feature_dim=-3,
    ),
)
