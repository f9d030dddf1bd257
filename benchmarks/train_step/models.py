"""Models and batches; needs only torch and transformers, so that the rivals' environments have it too.

Shape legend: B = rows of a batch, L = tokens of its longest row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["MRPC_QUANTILES", "SHAPES", "Shape", "build_model", "make_batch", "spread_lengths"]

# Tokens of MRPC's training pairs (wordpieces of BERT, specials included) at 0, 5, ... 100 % of the pairs.
MRPC_QUANTILES = (19, 32, 36, 39, 41, 44, 45, 47, 50, 51, 53, 55, 57, 59, 61, 62, 64, 67, 70, 74, 103)


@dataclass(frozen=True)
class Shape:
    """A model and its batches. tokens: width of all batches; None: of grouped batches of MRPC."""

    name: str
    title: str
    family: str
    layers: int
    hidden: int
    heads: int
    vocabulary: int
    batch: int
    tokens: int | None


_ALL = (
    Shape("minilm", "MiniLM-L6 (6 layers of 384), batch 32, lengths of MRPC", "bert", 6, 384, 12, 30522, 32, None),
    Shape("minilm-padded", "MiniLM-L6, batch 32, all padded to 128", "bert", 6, 384, 12, 30522, 32, 128),
    Shape("bert-base", "4 layers of BERT-base, batch 8 x 128", "bert", 4, 768, 12, 30522, 8, 128),
    Shape("gpt2", "4 layers of GPT-2 small, batch 4 x 128", "gpt2", 4, 768, 12, 50257, 4, 128),
    Shape("tiny", "2 layers of 32, batch 4", "bert", 2, 32, 2, 100, 4, 8),
)
SHAPES = {shape.name: shape for shape in _ALL}


def build_model(shape: Shape, seed: int = 0) -> Any:
    """A sequence classifier with random weights and the usual dropout."""
    import transformers as t

    torch.manual_seed(seed)
    if shape.family == "gpt2":
        config: Any = t.GPT2Config(
            n_embd=shape.hidden, n_layer=shape.layers, n_head=shape.heads, vocab_size=shape.vocabulary, pad_token_id=0
        )
        return t.GPT2ForSequenceClassification(config)
    config = t.BertConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden,
        vocab_size=shape.vocabulary,
    )
    return t.BertForSequenceClassification(config)


def make_batch(shape: Shape, lengths: list[int], seed: int) -> dict[str, Tensor]:
    """Random ids of these lengths, padded to the longest: input_ids and attention_mask (B, L), labels (B,)."""
    generator = torch.Generator().manual_seed(seed)
    wide = shape.tokens or max(lengths)
    ids_BL = torch.randint(1, shape.vocabulary, (len(lengths), wide), generator=generator)
    mask_BL = torch.arange(wide) < torch.tensor(lengths)[:, None]
    labels_B = torch.randint(0, 2, (len(lengths),), generator=generator)
    return {"input_ids": ids_BL * mask_BL, "attention_mask": mask_BL.long(), "labels": labels_B}


def spread_lengths(count: int) -> list[int]:
    """``count`` lengths that are spread as MRPC's are, in rising order."""
    last = len(MRPC_QUANTILES) - 1
    places = [last * (i + 0.5) / count for i in range(count)]
    return [
        round(MRPC_QUANTILES[int(p)] + (p % 1) * (MRPC_QUANTILES[int(p) + 1] - MRPC_QUANTILES[int(p)])) for p in places
    ]
