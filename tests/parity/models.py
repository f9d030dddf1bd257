"""Tiny models and values that both libraries are run on; imports torch and numpy only.

Values come from numpy's ``RandomState``, whose stream is frozen, so that the golden files need not hold them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["MODELS", "fill", "model_input", "upstream"]

HEAD_SIZE = 4


class Stack(nn.Module):
    """Three Linear layers, so that the second one may lose inputs and outputs."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.fc1 = nn.Linear(16, width)
        self.fc2 = nn.Linear(width, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(torch.relu(self.fc2(torch.relu(self.fc1(x)))))
        return y


class Attention(nn.Module):
    """Self-attention without softmax, whose number of heads follows from the size of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.dense = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (-1, HEAD_SIZE)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        context = (q @ k.transpose(2, 3) / 16) @ v
        y: Tensor = self.dense(context.transpose(1, 2).flatten(2))
        return y


class ConvNet(nn.Module):
    """Two convolutions with batch norms and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        y: Tensor = self.fc(x.mean(dim=(2, 3)))
        return y


class Lookup(nn.Module):
    """An embedding and a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(12, 16)
        self.fc = nn.Linear(16, 8)

    def forward(self, ids: Tensor) -> Tensor:
        y: Tensor = self.fc(self.table(ids))
        return y


class Layered(nn.Module):
    """Embeddings, a list of layers and a head, as transformers name them."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(12, 8)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)) for _ in range(depth))
        self.classifier = nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embeddings(ids)
        for layer in self.encoder.layer:  # type: ignore[union-attr]
            x = x + layer(x)
        y: Tensor = self.classifier(x)
        return y


MODELS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: _named(nn.Linear(16, 8)),
    "square": lambda: _named(nn.Linear(10, 10)),
    "one": lambda: _named(nn.Linear(1, 1)),
    "no_bias": lambda: _named(nn.Linear(16, 8, bias=False)),
    "convolution": lambda: _named(nn.Conv2d(3, 8, 3, padding=1)),
    "convolution_groups": lambda: _named(nn.Conv2d(4, 8, (3, 2), stride=2, groups=2, bias=False)),
    "circular": lambda: _named(nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular")),
    "stack": Stack,
    "even_stack": lambda: Stack(16),
    "attention": Attention,
    "conv_net": ConvNet,
    "lookup": Lookup,
    "layered_2": lambda: Layered(2),
    "layered_4": lambda: Layered(4),
}


def _named(layer: nn.Module) -> nn.Module:
    """The layer under the name ``0``."""
    return nn.Sequential(layer)


def model_input(model: str, seed: int, batch: int = 2) -> Tensor:
    """Multiples of 1/256 up to 4; token ids for models with an embedding."""
    random = np.random.RandomState(seed + 7)
    if model.startswith(("lookup", "layered")):
        return torch.from_numpy(random.randint(0, 12, size=(batch, 4)))
    shapes: dict[str, tuple[int, ...]] = {
        "convolution": (3, 4, 3),
        "convolution_groups": (4, 5, 4),
        "circular": (3, 4, 3),
        "conv_net": (2, 7, 7),
    }
    shapes |= {"attention": (3, 16), "one": (1,), "square": (10,)}
    shape = (batch, *shapes.get(model, (16,)))
    return torch.from_numpy(random.randint(-1024, 1025, size=shape) / 256).float()


def upstream(y: Tensor) -> Tensor:
    """A gradient with large and small entries, to show that none is clipped."""
    return ((torch.arange(y.numel(), device=y.device).reshape(y.shape) - y.numel() // 2) * 8.0).to(y.dtype)


def _values(kind: str, shape: tuple[int, ...], random: np.random.RandomState) -> Tensor:
    """Weights or scores of a shape; those of "distinct" have no two of one magnitude while there are 1024 or fewer."""
    count = int(np.prod(shape))
    sign = random.choice([-1.0, 1.0], size=count)
    if kind == "normal":
        flat = random.standard_normal(count) * 0.05
    elif kind == "ties":
        flat = sign * random.choice([0.25, 0.5, 1.0], size=count)
    elif kind == "zeros":
        flat = np.zeros(count)
    elif kind == "some_zeros":
        flat = sign * random.permutation(max(1024, count))[:count] / 1024 * (random.uniform(size=count) > 0.3)
    else:
        flat = sign * (1 + random.permutation(max(1024, count))[:count]) / 1024
        flat *= {"distinct": 1.0, "huge": 2.0**80, "tiny": 2.0**-80}[kind]
    return torch.from_numpy(flat.reshape(shape)).float()


def fill(model: nn.Module, kind: str, seed: int, only: str = "") -> None:
    """Give every parameter and buffer of ``model`` whose name ends with ``only`` values of ``kind``."""
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point() or not name.endswith(only):
            continue
        random = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
        if tensor.dim() > 1:
            value = _values(kind, tuple(tensor.shape), random)
        else:
            low = 32 if name.endswith(("running_var", "bn1.weight", "bn2.weight")) else -64
            value = torch.from_numpy(random.randint(low, 65, size=tuple(tensor.shape)) / 64).float()
        tensor.copy_(value)
