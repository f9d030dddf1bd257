"""Record what DeepSpeed 0.19.6, the last release with the compression library, computes.

The files in ``golden/`` are committed; this script is only run again to add cases. It needs an environment
of its own, because later releases of DeepSpeed have no compression library::

    python -m venv old && old/bin/pip install torch==2.13.0 deepspeed==0.19.6 "numpy>=2.2"
    old/bin/python tests/parity/make_golden.py

Most inputs are multiples of a power of two small enough that their sums are exact in float32 in any order,
so that the results do not depend on the machine. The inputs named in ``INEXACT`` are not.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import torch
from deepspeed.compression.basic_layer import Embedding_Compress, LinearLayer_Compress, QuantAct
from deepspeed.compression.utils import AsymQuantizer, BinaryQuantizer, SymQuantizer, TernaryQuantizer
from deepspeed.runtime.quantize import Quantizer
from numpy.typing import NDArray
from torch import Tensor, nn

GOLDEN = Path(__file__).parent / "golden"
BITS = (2, 3, 4, 5, 6, 7, 8, 12)
QUANTIZERS: list[tuple[str, Any, int]] = [
    ("binary", BinaryQuantizer, 1),
    ("ternary", TernaryQuantizer, 2),
    *((f"int{bits}", SymQuantizer, bits) for bits in BITS),
    *((f"int{bits}_asymmetric", AsymQuantizer, bits) for bits in BITS),
]
INEXACT = ("normal",)


def inputs() -> dict[str, tuple[Tensor, tuple[int, ...]]]:
    """Name -> (weight, numbers of groups)."""
    generator = torch.Generator().manual_seed(1234)

    def grid(*shape: int) -> Tensor:
        return torch.randint(-2048, 2049, shape, generator=generator) / 1024

    ties = torch.arange(-256, 257)[torch.randperm(513, generator=generator)[:256]] / 256
    ties[5], ties[77] = -1.0, 1.0
    with_zeros = grid(8, 16) * (torch.rand(8, 16, generator=generator) > 0.4)
    zero_rows = grid(8, 16)
    zero_rows[[0, 3]] = 0
    one_direction = grid(4, 16).abs() + 1 / 1024
    spread = grid(4, 8) * 1e-30
    spread[:, 0], spread[:, 3] = 1e30, 1
    return {
        "normal": (torch.randn(8, 16, generator=generator) * 0.02, (1, 2, 8)),
        "grid": (grid(8, 16), (1, 4, 8, 16)),
        "odd_sizes": (grid(5, 7), (1, 5, 7)),
        "ties": (ties.reshape(16, 16), (1, 16)),
        "with_zeros": (with_zeros, (1, 8)),
        "zero_rows": (zero_rows, (1, 8)),
        "zeros": (torch.zeros(4, 8), (1, 4)),
        "negative_zeros": (-torch.zeros(4, 8), (1, 4)),
        "one": (torch.tensor([[0.75]]), (1,)),
        "one_negative": (torch.tensor([[-0.75]]), (1,)),
        "constant": (torch.full((4, 8), 0.3125), (1, 4)),
        "constant_negative": (torch.full((4, 8), -0.3125), (1, 4)),
        "each_its_own_group": (grid(4, 4), (16,)),
        "two_values": (torch.where(grid(4, 8) >= 0, 0.5, -0.5), (1, 4)),
        "all_positive": (one_direction, (1, 4)),
        "all_negative": (-one_direction, (1, 4)),
        "far_from_zero": (grid(4, 8) / 4 + 1024, (1, 4)),
        "huge": (grid(4, 16) * 2.0**99, (1, 4)),
        "tiny": (grid(4, 16) * 2.0**-100, (1, 4)),
        "spread": (spread, (1, 4)),
    }


def upstream(w: Tensor) -> Tensor:
    """A gradient with large and small entries, to show that none is clipped."""
    return (torch.arange(w.numel()).reshape(w.shape) - w.numel() // 2) * 8.0


def quantizer_arrays() -> dict[str, NDArray[Any]]:
    """``<input>`` weights; ``<input>/<groups>`` outputs (quantizers, *shape); ``<input>/gradient`` likewise."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, (w, group_counts) in inputs().items():
        arrays[name] = w.numpy()
        for groups in group_counts:
            outputs, gradients = [], []
            for _, quantizer, bits in QUANTIZERS:
                leaf = w.clone().requires_grad_()
                output = quantizer.apply(leaf, bits, None, None, groups)
                output.backward(upstream(w))
                outputs.append(output.detach())
                assert leaf.grad is not None
                gradients.append(leaf.grad)
            arrays[f"{name}/{groups}"] = torch.stack(outputs).numpy()
        arrays[f"{name}/gradient"] = torch.stack(gradients).numpy()
    return arrays


def linear_case(weight_bits: int, groups: int, kind: str, calibration: str | None, act_bits: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(weight_bits)
    layer = LinearLayer_Compress(16, 6)
    layer.weight.data = torch.randint(-1024, 1025, (6, 16), generator=generator) / 1024
    layer.bias.data = torch.randint(-64, 65, (6,), generator=generator) / 64
    layer.enable_weight_quantization(weight_bits, weight_bits, 0, True, kind, groups)
    layer.weight_quantization_enabled = True
    if calibration:
        layer.enable_activation_quantization(act_bits, kind, calibration)
        layer.activation_quantization_enabled = True
    x = torch.randint(-1024, 1025, (2, 3, 16), generator=generator) / 256
    result = {"weight": layer.weight.data.clone(), "bias": layer.bias.data.clone(), "x": x.clone()}
    if calibration == "static":
        for _ in range(3):
            layer(torch.randint(-1024, 1025, (2, 3, 16), generator=generator) / 256)
        layer.eval()
        result["range"] = layer.activation_quantizer.x_min_max.clone()
    x.requires_grad_()
    y = layer(x)
    y.backward(upstream(y))
    grads = {"weight_gradient": layer.weight.grad, "x_gradient": x.grad, "bias_gradient": layer.bias.grad}
    return {**result, **grads, "y": y.detach()}


def embedding_case(bits: int, kind: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(bits)
    layer = Embedding_Compress(10, 8, 0)
    layer.weight.data = torch.randint(-1024, 1025, (10, 8), generator=generator) / 1024
    layer.weight.data[0] = 0
    layer.enable_weight_quantization(bits, bits, 0, True, kind, 1)
    layer.weight_quantization_enabled = True
    ids = torch.tensor([[1, 3, 3, 9], [7, 2, 0, 0]])
    y = layer(ids)
    y.backward(upstream(y))
    return {"weight": layer.weight.data, "ids": ids, "y": y.detach(), "weight_gradient": layer.weight.grad}


def layer_arrays() -> dict[str, NDArray[Any]]:
    cases: dict[str, dict[str, Tensor]] = {}
    for bits, groups, kind, calibration, act_bits in (
        (1, 1, "symmetric", None, 0),
        (1, 6, "symmetric", "dynamic", 8),
        (1, 4, "symmetric", "static", 8),
        (2, 1, "symmetric", "dynamic", 8),
        (2, 4, "symmetric", "dynamic", 4),
        (8, 1, "symmetric", "dynamic", 8),
        (4, 6, "symmetric", "static", 4),
        (8, 1, "asymmetric", "dynamic", 8),
        (4, 4, "asymmetric", "dynamic", 4),
        (4, 1, "asymmetric", "static", 8),
    ):
        name = f"linear:{bits}:{groups}:{kind}:{calibration or 'none'}:{act_bits}"
        cases[name] = linear_case(bits, groups, kind, calibration, act_bits)
    for bits, kind in ((1, "symmetric"), (2, "symmetric"), (8, "symmetric"), (4, "symmetric"), (8, "asymmetric")):
        cases[f"embedding:{bits}:{kind}"] = embedding_case(bits, kind)
    return {f"{case}/{key}": value.numpy() for case, tensors in cases.items() for key, value in tensors.items()}


def range_facts() -> dict[str, Any]:
    """The running range of static activations, batch by batch."""
    observer = QuantAct().train()
    batches = [[-1.0, 2.0, 0.5], [-3.0, 1.0, 0.0], [0.25, 0.5, 4.0]]
    ranges = []
    for batch in batches:
        observer(torch.tensor(batch), 8)
        ranges.append(observer.x_min_max.tolist())
    return {"batches": batches, "ranges": ranges}


def falling_bits(start: int, target: int, period: int, steps: int) -> list[int]:
    """Bits in force after 0, 1, ... calls of the runtime quantizer, which the engine calls once per applied step."""
    quantizer = Quantizer(q_groups=1, q_type="symmetric", q_rounding="nearest")
    weight: Any = nn.Parameter(torch.linspace(-1, 1, 16).reshape(4, 4).half())
    weight.start_bits, weight.target_bits, weight.q_period = start, target, period
    bits = [weight.start_bits]
    for _ in range(steps):
        quantizer.quantize([[weight]], overflow=False, eigenvalue_enabled=False, block_eigenvalue=None)
        bits.append(weight.start_bits)
    return bits


def enabled_forwards(weight_offset: int, activation_offset: int, accumulation: int, steps: int) -> list[dict[str, Any]]:
    """Train a real engine; for each micro-forward, what was in force in it."""

    def technique(offset: int, params: dict[str, Any], **shared: Any) -> dict[str, Any]:
        groups = {"all": {"params": params, "modules": ["0"]}}
        return {
            "shared_parameters": {"enabled": True, "schedule_offset": offset, **shared},
            "different_groups": groups,
        }

    config = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulation,
        "optimizer": {"type": "Adam", "params": {"lr": 1e-3, "torch_adam": True}},
        "compression_training": {
            "weight_quantization": technique(
                weight_offset,
                {"start_bits": 1, "target_bits": 1, "quantization_period": 0},
                quantize_weight_in_forward=True,
            ),
            "activation_quantization": technique(activation_offset, {"bits": 8}, range_calibration="dynamic"),
        },
    }
    torch.manual_seed(0)
    model = deepspeed.compression.compress.init_compression(nn.Sequential(nn.Linear(4, 4)), config)
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
    layer = engine.module[0]
    seen: dict[str, Any] = {}

    def look(module: nn.Module, args: Any, output: Any) -> None:
        seen["weight"] = bool(module.weight_quantization_enabled)
        seen["activation"] = bool(module.activation_quantization_enabled)

    layer.register_forward_hook(look)
    forwards = []
    for _ in range(steps * accumulation):
        applied = engine.global_steps
        loss = engine(torch.ones(1, 4)).sum()
        forwards.append({"applied_steps": applied, **seen})
        engine.backward(loss)
        engine.step()
    return forwards


def schedule_facts() -> dict[str, Any]:
    for key, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29641", "RANK": "0", "WORLD_SIZE": "1"}.items():
        os.environ.setdefault(key, value)
    os.environ.setdefault("LOCAL_RANK", "0")
    deepspeed.init_distributed(dist_backend="gloo")
    cases = [(8, 2, 0, 12), (8, 2, 1, 70), (8, 1, 1, 140), (8, 2, 3, 120), (8, 4, 5, 100), (12, 8, 10, 100)]
    cases += [(3, 1, 7, 40), (8, 8, 1, 5), (1, 1, 0, 5), (2, 1, 0, 5), (16, 8, 1, 300), (8, 1, 0, 12)]
    return {
        "bits": [
            {"start": start, "target": target, "period": period, "bits": falling_bits(start, target, period, steps)}
            for start, target, period, steps in cases
        ],
        "enabled": [
            {
                "weight_offset": weights,
                "activation_offset": activations,
                "gradient_accumulation_steps": accumulation,
                "forwards": enabled_forwards(weights, activations, accumulation, 5),
            }
            for weights, activations, accumulation in ((0, 0, 1), (3, 1, 1), (1, 2, 4), (2, 0, 2), (9, 9, 1))
        ],
        "static_range": range_facts(),
    }


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, arrays in (("quantizers.npz", quantizer_arrays()), ("layers.npz", layer_arrays())):
        np.savez_compressed(GOLDEN / name, allow_pickle=False, **arrays)
    facts = {
        "versions": {"deepspeed": deepspeed.__version__, "torch": torch.__version__.split("+")[0]},
        "quantizers": [name for name, _, _ in QUANTIZERS],
        "inexact_inputs": list(INEXACT),
        **schedule_facts(),
    }
    (GOLDEN / "facts.json").write_text(json.dumps(facts, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
