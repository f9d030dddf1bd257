"""Tiny models with the module names of those that the example configs were written for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def tiny_bert(**extra: Any) -> Any:
    """BERT as the configs expect it: 12 layers, 12 heads."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        hidden_size=24, num_hidden_layers=12, num_attention_heads=12, intermediate_size=48, vocab_size=64,
        max_position_embeddings=16, num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **extra,
    )  # fmt: skip
    return _drawn(lambda: BertForSequenceClassification(config), spread=4)


def tiny_gpt2() -> Any:
    """A GPT-2 language model; its output head shares the weight of the word embeddings."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_embd=32, n_layer=2, n_head=2, vocab_size=64, n_positions=16, bos_token_id=1, eos_token_id=2,
        embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0, loss_type="ForCausalLM",
    )  # fmt: skip
    return _drawn(lambda: GPT2LMHeadModel(config), spread=4)


class ResidualBlock(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        stride = 1 if channels_in == channels else 2
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module = nn.Identity()
        if stride == 2:
            around = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(around, nn.BatchNorm2d(channels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        inner = self.conv2(self.bn1(self.conv1(x_BCHW)).relu())
        result: Tensor = (self.bn2(inner) + self.downsample(x_BCHW)).relu()
        return result


class TinyResNet(nn.Module):
    """A residual network for small pictures: three stages of two blocks."""

    def __init__(self, channels: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        for number, (before, after) in enumerate(((1, 1), (1, 2), (2, 4)), start=1):
            first = ResidualBlock(before * channels, after * channels)
            second = ResidualBlock(after * channels, after * channels)
            self.add_module(f"layer{number}", nn.ModuleList([first, second]))
        self.fc = nn.Linear(4 * channels, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.bn1(self.conv1(x_BCHW)).relu()
        for number in (1, 2, 3):
            for residual_block in self.get_submodule(f"layer{number}").children():
                x_BCHW = residual_block(x_BCHW)
        logits: Tensor = self.fc(x_BCHW.mean((2, 3)))
        return logits


def tiny_resnet() -> Any:
    """A residual network whose norms, as in a trained one, do not turn zeros into zeros."""
    model = _drawn(TinyResNet, spread=1)
    for name, parameter in model.named_parameters():
        if name.endswith("bn1.bias"):
            torch.nn.init.constant_(parameter, 0.5)
    return model


def _drawn(build: Callable[[], nn.Module], spread: float) -> nn.Module:
    """A model with random weights, so far from zero that each layer shows in the outputs."""
    torch.manual_seed(3)
    model = build()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(spread)
    return model


MODELS = {"bert": tiny_bert, "gpt2": tiny_gpt2, "cifar": tiny_resnet}


def loss_of(architecture: str, model: Any, rows: int, seed: int) -> Tensor:
    """The training loss of a model or engine on a random batch, in the precision of its weights."""
    generator = torch.Generator().manual_seed(seed)
    if architecture == "cifar":
        pictures = torch.randn(rows, 3, 8, 8, generator=generator).to(precision(model))
        return F.cross_entropy(model(pictures).float(), torch.randint(0, 10, (rows,), generator=generator))
    ids = torch.randint(3, 64, (rows, 8), generator=generator)
    labels = ids if architecture == "gpt2" else torch.randint(0, 3, (rows,), generator=generator)
    loss: Tensor = model(input_ids=ids, labels=labels).loss
    return loss


def outputs_of(architecture: str, model: Any) -> Tensor:
    """The logits of a model for one batch, float32."""
    generator = torch.Generator().manual_seed(99)
    with torch.no_grad():
        if architecture == "cifar":
            logits: Tensor = model(torch.randn(4, 3, 8, 8, generator=generator).to(precision(model)))
        else:
            logits = model(input_ids=torch.randint(3, 64, (4, 8), generator=generator)).logits
    return logits.float()


def precision(model: Any) -> torch.dtype:
    dtype: torch.dtype = next(p for p in model.parameters() if p.is_floating_point()).dtype
    return dtype
