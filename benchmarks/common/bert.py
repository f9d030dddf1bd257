"""The shape of the benchmarks' models."""

from __future__ import annotations

from transformers import BertConfig

__all__ = ["bert_config"]


def bert_config(layers: int = 12, hidden: int = 768) -> BertConfig:
    """By default BERT-base; heads of 64 and the same proportions at any width."""
    heads = max(1, hidden // 64)
    return BertConfig(
        num_hidden_layers=layers, hidden_size=hidden, intermediate_size=4 * hidden, num_attention_heads=heads
    )
