"""A small residual network and blocks that prune, for the tests of freezing and baking."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.tiny import block, ds_config

ATTENTION = {
    "bert": ("attention\\.output\\.dense", "attention\\.self\\.(query)", "(key)", "(value)"),
    "roberta": ("attention\\.output\\.dense", "(query)", "(key)", "(value)"),
    "electra": ("attention\\.output\\.dense", "(query)", "(key)", "(value)"),
    "distilbert": ("out_lin", "q_lin", "k_lin", "v_lin"),
}
FEED_FORWARD = {
    "bert": ("intermediate\\.dense", "layer\\.\\d+\\.output\\.dense"),
    "roberta": ("intermediate\\.dense", "layer\\.\\d+\\.output\\.dense"),
    "electra": ("intermediate\\.dense", "layer\\.\\d+\\.output\\.dense"),
    "distilbert": ("ffn\\.lin1", "ffn\\.lin2"),
}


def pruning(technique: str, ratio: float, modules: str, related: list[str] | None = None, **params: Any) -> Any:
    """One pruning block with one group."""
    method = params.pop("method", "topk" if technique == "head" else "l1")
    shared = {"enabled": True, "schedule_offset": 0, "method": method}
    if technique == "head":
        shared["num_heads"] = params.pop("num_heads")
    group: dict[str, Any] = {"params": {"dense_ratio": ratio, **params}, "modules": [modules]}
    if related is not None:
        group["related_modules"] = [related]
    return {f"{technique}_pruning": {"shared_parameters": shared, "different_groups": {"all": group}}}


def config(*blocks: Any, quantized: dict[str, Any] | None = None) -> dict[str, Any]:
    """A DeepSpeed config of these blocks; ``quantized`` are options of ``tests.tiny.block``, None for float."""
    result: dict[str, Any] = {"export": {"float_dtype": "float32"}} if quantized is None else block(**quantized)
    for each in blocks:
        result |= each
    return ds_config(result)


def transformer_pruning(kind: str, related: bool = True, heads: int = 4) -> list[Any]:
    """Half of the heads and three quarters of the feed-forward rows."""
    out, *inputs = ATTENTION[kind]
    rows, columns = FEED_FORWARD[kind]
    return [
        pruning("head", 0.5, out, inputs if related else None, num_heads=heads),
        pruning("row", 0.75, rows, [columns] if related else None),
    ]


class Residual(nn.Module):
    """Two convolutions with norms around a shortcut."""

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * channels, 3, padding=1, padding_mode="circular", bias=False)
        self.bn1 = nn.BatchNorm2d(2 * channels, affine=affine)
        self.conv2 = nn.Conv2d(2 * channels, channels, 3, padding="same", dilation=2)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(x + self.bn2(self.conv2(y)))


class Network(nn.Module):
    """(N, 3, 8, 8) to (N, 5)."""

    def __init__(self, affine: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(Residual(8, affine) for _ in range(2))
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="reflect")
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.head(torch.relu(self.depthwise(x)).mean((2, 3)))
        return out


def network(affine: bool = True) -> Network:
    """With running statistics and norm parameters away from their initial values."""
    torch.manual_seed(0)
    model = Network(affine)
    for _ in range(3):
        model(torch.randn(4, 3, 8, 8))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
