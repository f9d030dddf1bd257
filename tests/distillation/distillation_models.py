"""Tiny random models of each architecture, and batches for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    RobertaConfig,
)

from xtc_ds.config import parse_block
from xtc_ds.distillation.distiller import Distiller
from xtc_ds.plan import find_layer_stack

VOCAB = 50
ARCHITECTURES = ("bert", "roberta", "distilbert", "electra", "gpt2", "llama")
ENCODERS = ("bert", "roberta", "distilbert", "electra")


def tiny_config(kind: str, layers: int = 2, width: int = 32, heads: int = 4, labels: int = 3, **more: Any) -> Any:
    common = {
        "vocab_size": VOCAB, "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
        "intermediate_size": 2 * width, "max_position_embeddings": 40, "num_labels": labels, "pad_token_id": 0,
    }  # fmt: skip
    if kind == "bert":
        return BertConfig(**common, **more)
    if kind == "roberta":
        return RobertaConfig(**{**common, "type_vocab_size": 1}, **more)
    if kind == "electra":
        return ElectraConfig(**common, embedding_size=16, **more)
    if kind == "llama":
        return LlamaConfig(**common, num_key_value_heads=heads // 2, **more)
    if kind == "distilbert":
        return DistilBertConfig(
            vocab_size=VOCAB, dim=width, n_layers=layers, n_heads=heads, hidden_dim=2 * width,
            max_position_embeddings=40, num_labels=labels, pad_token_id=0, **more,
        )  # fmt: skip
    assert kind == "gpt2"
    return GPT2Config(
        vocab_size=VOCAB, n_embd=width, n_layer=layers, n_head=heads, n_positions=40,
        num_labels=labels, pad_token_id=0, **more,
    )  # fmt: skip


def tiny_model(kind: str, seed: int = 0, implementation: str = "sdpa", **more: Any) -> Any:
    torch.manual_seed(seed)
    config = tiny_config(kind, **more)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation=implementation)
    with torch.no_grad():  # the usual initialisation is so small that all attention is nearly uniform
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6.0)
    return model.train()


def without_dropout(model: nn.Module) -> Any:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def batch(
    lengths: tuple[int, ...] = (7, 4, 6), total: int = 7, left: bool = False, labels: int = 3
) -> dict[str, Tensor]:
    """Rows of random tokens of given lengths; the same tokens whatever the padding."""
    ids = torch.zeros(len(lengths), total, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(row)
        tokens = torch.randint(3, VOCAB, (length,), generator=generator)
        where = slice(total - length, total) if left else slice(0, length)
        ids[row, where] = tokens
        mask[row, where] = 1
    targets = torch.arange(len(lengths)) % labels if labels > 1 else torch.rand(len(lengths))
    return {"input_ids": ids, "attention_mask": mask, "labels": targets}


def kd(**keys: Any) -> Any:
    """The ``kd`` block with these keys."""
    return parse_block({"kd": {"enabled": True, **keys}}).kd


def distiller(student: Any, teacher: Any, kept: tuple[int, ...] | None = None, **config: Any) -> Distiller:
    """An attached distiller."""
    stacks = [find_layer_stack(model).layers for model in (student, teacher)]
    made = Distiller(student, teacher, kd(**config), *stacks, kept)
    made.attach()
    return made


def close(a: Tensor | float, b: Tensor | float, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(
        torch.as_tensor(a), torch.as_tensor(b), rtol=tolerance, atol=tolerance, check_dtype=False
    )
