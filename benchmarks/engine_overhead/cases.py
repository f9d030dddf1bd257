"""What ``benchmarks.engine_overhead`` measures: a BERT-like model under plain DeepSpeed and under each technique."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

import xtc_ds

__all__ = [
    "ALL_DISABLED",
    "CASES",
    "PLAIN",
    "Shape",
    "build_engine",
    "make_batch",
    "start_one_process",
    "start_processes",
    "train_step",
]

PLAIN, ALL_DISABLED = "plain DeepSpeed", "all disabled"
_BODY = ["attention\\.", "intermediate", "output\\.dense"]
_SELF = "attention.self.{query,key,value}"


@dataclass(frozen=True)
class Shape:
    """The model and its batch: (batch, tokens) of ids, ``hidden`` wide with ``hidden / 64`` heads at least 2."""

    layers: int
    hidden: int
    batch: int
    tokens: int
    vocabulary: int = 4000

    @property
    def heads(self) -> int:
        """Attention heads."""
        return max(2, self.hidden // 64)


def _technique(name: str, params: dict[str, Any], shared: dict[str, Any], **group: Any) -> dict[str, Any]:
    groups = {"body": {"params": params, "modules": _BODY, **group}}
    return {
        name: {
            "shared_parameters": {"enabled": True, "schedule_offset": 0, **shared},
            "different_groups": groups,
        }
    }


def _weights(bits: int) -> dict[str, Any]:
    return _technique("weight_quantization", {"start_bits": bits, "target_bits": bits}, {})


_ACTIVATIONS = _technique("activation_quantization", {"bits": 8}, {"range_calibration": "dynamic"})
_L1 = {"method": "l1"}


def _blocks(shape: Shape) -> dict[str, dict[str, Any] | None]:
    rows = _technique("row_pruning", {"dense_ratio": 0.5}, _L1, modules=["intermediate.dense"])
    heads = _technique(
        "head_pruning",
        {"dense_ratio": 0.5},
        {"method": "topk", "num_heads": shape.heads},
        modules=["attention.output.dense"],
    )
    off = {"weight_quantization": {"shared_parameters": {"enabled": False}, "different_groups": {}}}
    return {
        PLAIN: None,
        ALL_DISABLED: off | {"layer_reduction": {"enabled": False}, "kd": {"enabled": False}},
        "weights 1 bit": _weights(1),
        "weights 8 bit": _weights(8),
        "activations 8 bit": _ACTIVATIONS,
        "weights 1 bit, activations 8 bit": _weights(1) | _ACTIVATIONS,
        "sparse pruning, l1": _technique("sparse_pruning", {"dense_ratio": 0.5}, _L1),
        "row pruning, l1": rows,
        "head pruning, topk": heads,
        "kd, logits": {"kd": {"enabled": True, "teacher": "self"}},
        "kd, logits and layers": {
            "kd": {"enabled": True, "teacher": "self", "hidden_weight": 1.0, "attention_weight": 1.0}
        },
    }


CASES: tuple[str, ...] = tuple(_blocks(Shape(1, 64, 1, 1)))


def start_one_process() -> None:
    """A process group of one rank."""
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    start_processes()


def start_processes() -> None:
    """The process group that the environment describes."""
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = get_accelerator().communication_backend_name()
    deepspeed.init_distributed(dist_backend="nccl" if backend == "nccl" else "gloo", verbose=False)


def build_engine(case: str, shape: Shape, stage: int) -> Any:
    """The engine of one case; every case begins with the same weights and draws no dropout."""
    block = _blocks(shape)[case]
    torch.manual_seed(0)
    model = _model(shape)
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": shape.batch,
        "zero_optimization": {"stage": stage},
        "steps_per_print": 10**9,
    }
    arguments = {"model": model, "optimizer": torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)}
    if block is None:
        engine, *_ = deepspeed.initialize(config=config | {"zero_allow_untested_optimizer": True}, **arguments)
    else:
        config |= {"zero_allow_untested_optimizer": True, "compression_training": block}
        engine, *_ = xtc_ds.initialize(config=config, **arguments)
    return engine


def _model(shape: Shape) -> nn.Module:
    return BertForSequenceClassification(
        BertConfig(
            hidden_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=4 * shape.hidden,
            vocab_size=shape.vocabulary,
            max_position_embeddings=max(512, shape.tokens),
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def make_batch(shape: Shape) -> dict[str, Tensor]:
    """Random ids and labels."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, shape.vocabulary, (shape.batch, shape.tokens), generator=generator)
    labels = torch.randint(0, 2, (shape.batch,), generator=generator)
    device = get_accelerator().current_device_name()
    return {"input_ids": ids.to(device), "labels": labels.to(device)}


def train_step(engine: Any, batch: dict[str, Tensor]) -> None:
    """Forward, backward, optimizer step; the device is done when it returns."""
    engine.backward(engine(**batch).loss)
    engine.step()
    get_accelerator().synchronize()
