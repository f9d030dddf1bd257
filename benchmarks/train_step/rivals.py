"""Other libraries' way to train the same cases; imported only in an environment that has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["compress_with_deepspeed", "compress_with_torchao", "distil_by_outputs"]

_MODULES = ["attention.self", "intermediate", "output.dense", "word_embeddings", "pooler", "attn", "mlp"]


def compress_with_deepspeed(model: nn.Module, bits: int = 1) -> None:
    """DeepSpeed 0.19.6's compression: weights of ``bits`` bits, inputs of 8, in force from the first step."""
    from deepspeed.compression.compress import init_compression
    from deepspeed.compression.config import get_compression_config
    from deepspeed.compression.scheduler import compression_scheduler

    names = [name for name, _ in model.named_modules()]
    found = [word for word in _MODULES if any(word in name for name in names)]
    shared = {"enabled": True, "schedule_offset": 0, "quantization_type": "symmetric"}
    weights = {
        **shared,
        "quantizer_kernel": False,
        "quantize_groups": 1,
        "quantize_verbose": False,
        "quantize_weight_in_forward": True,
        "rounding": "nearest",
        "fp16_mixed_quantize": {"enabled": False, "quantize_change_ratio": 0.1},
    }
    inputs = {**shared, "range_calibration": "dynamic"}
    config = {
        "compression_training": {
            "weight_quantization": {
                "shared_parameters": weights,
                "different_groups": {
                    "all": {
                        "params": {"start_bits": bits, "target_bits": bits, "quantization_period": 0},
                        "modules": found,
                    }
                },
            },
            "activation_quantization": {
                "shared_parameters": inputs,
                "different_groups": {
                    "all": {"params": {"bits": 8}, "modules": [word for word in found if word != "word_embeddings"]}
                },
            },
        }
    }
    init_compression(model, config)
    compression_scheduler(model, get_compression_config(config)).step(step_zero_check=True)


def compress_with_torchao(model: nn.Module) -> None:
    """The QAT of torchao with int8 weights per row and int8 inputs per token (it has no symmetric ones): all linear
    layers but the classifier.
    """
    from torchao.quantization import quantize_
    from torchao.quantization.granularity import PerAxis, PerToken
    from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig

    inputs = IntxFakeQuantizeConfig(torch.int8, granularity=PerToken(), is_symmetric=False)
    weights = IntxFakeQuantizeConfig(torch.int8, granularity=PerAxis(0), is_symmetric=True)

    def chosen(module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Linear) and name not in ("classifier", "score")

    quantize_(model, QATConfig(activation_config=inputs, weight_config=weights, step="prepare"), chosen)


def distil_by_outputs(model: Any, teacher: Any, layers: bool) -> Callable[[dict[str, Tensor]], Tensor]:
    """Distillation through the models' outputs, as scripts write it. layers: hidden states and attention too."""
    if layers:
        for side in (model, teacher):
            side.set_attn_implementation("eager")  # the only one that gives its attention
    teacher.requires_grad_(False).eval()
    asked = {"output_hidden_states": layers, "output_attentions": layers}

    def loss(batch: dict[str, Tensor]) -> Tensor:
        ours = model(**batch, **asked)
        with torch.no_grad():
            theirs = teacher(**batch, **asked)
        total = F.kl_div(ours.logits.log_softmax(-1), theirs.logits.softmax(-1), reduction="batchmean")
        for name in ("hidden_states", "attentions") if layers else ():
            for student, lesson in zip(getattr(ours, name), getattr(theirs, name), strict=True):
                total = total + F.mse_loss(student, lesson)
        return total

    return loss
