"""Tiny random models and configs for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

ARCHITECTURES = ("bert", "roberta", "distilbert", "electra", "gpt2", "llama")


def tiny_model(kind: str = "bert", layers: int = 4, **extra: Any) -> Any:
    """A sequence classifier of hidden size 32 without dropout."""
    import transformers as t

    common: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 100,
        "pad_token_id": 0,
    }
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    if kind == "bert":
        config: Any = t.BertConfig(**{**common, **no_dropout, "max_position_embeddings": 64, **extra})
    elif kind == "roberta":
        config = t.RobertaConfig(**{**common, **no_dropout, "max_position_embeddings": 64, **extra})
    elif kind == "electra":
        config = t.ElectraConfig(
            **{**common, **no_dropout, "embedding_size": 16, "max_position_embeddings": 64, **extra}
        )
    elif kind == "distilbert":
        config = t.DistilBertConfig(
            dim=32, n_layers=layers, n_heads=2, hidden_dim=64, vocab_size=100, max_position_embeddings=64,
            dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0, pad_token_id=0, **extra,
        )  # fmt: skip
    elif kind == "gpt2":
        config = t.GPT2Config(
            n_embd=32, n_layer=layers, n_head=2, vocab_size=100, n_positions=64, pad_token_id=0, bos_token_id=1,
            eos_token_id=2, embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0, **extra,
        )  # fmt: skip
    else:
        config = t.LlamaConfig(**{**common, "num_key_value_heads": 1, "max_position_embeddings": 64, **extra})
    torch.manual_seed(1)
    model: nn.Module = t.AutoModelForSequenceClassification.from_config(config)
    # Random heads are near zero; a spread makes differences between models visible.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "embedding" not in name:
                parameter.mul_(4)
    return model


def batch(rows: int = 4, tokens: int = 9, seed: int = 0, labels: bool = True) -> dict[str, torch.Tensor]:
    """A padded batch: the last row is two tokens shorter."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 100, (rows, tokens), generator=generator)
    mask = torch.ones_like(ids)
    ids[-1, -2:], mask[-1, -2:] = 0, 0
    result = {"input_ids": ids, "attention_mask": mask}
    if labels:
        result["labels"] = torch.randint(0, 2, (rows,), generator=generator)
    return result


def block(
    bits: float = 1,
    activation: int | None = 8,
    reduction: dict[str, Any] | None = None,
    kd: dict[str, Any] | None = None,
    shared: dict[str, Any] | None = None,
    params: dict[str, Any] | None = None,
    modules: list[str] | None = None,
    exclude: list[str] | None = None,
    export: str = "float16",
    activation_shared: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A compression_training block; by default all layers but embeddings and output heads at 1 bit, inputs at 8."""
    heads = ["embeddings\\.|wte|wpe|embed_tokens", "^classifier$|classifier\\.out_proj$|^score$"]
    result: dict[str, Any] = {
        "weight_quantization": {
            "shared_parameters": {
                "enabled": True,
                "quantize_weight_in_forward": True,
                "schedule_offset": 0,
                **(shared or {}),
            },
            "different_groups": {
                "all": {
                    "params": {"start_bits": bits, "target_bits": bits, **(params or {})},
                    "modules": modules or ["*"],
                    "exclude": heads if exclude is None else exclude,
                }
            },
        },
        "export": {"float_dtype": export},
    }
    if activation:
        chosen, shared = modules or ["*"], activation_shared or {}
        result["activation_quantization"] = activations(activation, chosen, heads, **shared)
    if reduction:
        result["layer_reduction"] = {"enabled": True, **reduction}
    if kd:
        result["kd"] = {"enabled": True, **kd}
    return result


def activations(bits: int, modules: list[str], exclude: list[str], **shared: Any) -> dict[str, Any]:
    """An activation_quantization section of one group, with dynamic ranges from the first step."""
    common = {"enabled": True, "schedule_offset": 0, "range_calibration": "dynamic", **shared}
    group = {"params": {"bits": bits}, "modules": modules, "exclude": exclude}
    return {"shared_parameters": common, "different_groups": {"all": group}}


def ds_config(compression: dict[str, Any], **extra: Any) -> dict[str, Any]:
    """A DeepSpeed config around a block."""
    return {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_clipping": 1.0,
        "steps_per_print": 10**9,
        "compression_training": compression,
        **extra,
    }
