"""Record what DeepSpeed 0.19.6, the last release with the compression library, computes.

The files in ``golden/`` are committed; this script is only run again to add cases. It needs an environment
of its own, because later releases of DeepSpeed have no compression library::

    python -m venv old && old/bin/pip install torch==2.13.0 deepspeed==0.19.6 "numpy>=2.2"
    old/bin/python -m tests.parity.make_golden

``old_library.py`` runs the cases of ``cases.py``, whole layers and models; ``old_schedule.py``, ``old_engine.py`` and
``old_moq.py`` record what is in force in which forward; here are the quantizers by themselves.

Most inputs are multiples of a power of two small enough that their sums are exact in float32 in any order,
so that the results do not depend on the machine. The inputs named in ``INEXACT`` are not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import torch
from deepspeed.compression.basic_layer import Embedding_Compress, LinearLayer_Compress
from deepspeed.compression.utils import AsymQuantizer, BinaryQuantizer, SymQuantizer, TernaryQuantizer
from numpy.typing import NDArray
from torch import Tensor

from tests.parity.arrays import as_array, save_arrays
from tests.parity.cases import CASES, DIFFERENT
from tests.parity.old_engine import engine_facts
from tests.parity.old_library import run_all
from tests.parity.old_moq import moq_facts
from tests.parity.old_schedule import schedule_facts
from tests.parity.old_student import student_arrays

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


def sixteen_bit_arrays() -> dict[str, NDArray[Any]]:
    """``<input>/<groups>/<dtype>`` -> what the quantizers make of 16-bit weights, as float32, (quantizers, *shape)."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, groups in (("normal", 1), ("normal", 8), ("grid", 8), ("ties", 1), ("tiny", 4), ("zero_rows", 8)):
        for dtype in (torch.bfloat16, torch.float16):
            w = inputs()[name][0].to(dtype)
            outputs = [quantizer.apply(w, bits, None, None, groups) for _, quantizer, bits in QUANTIZERS]
            arrays[f"{name}/{groups}/{dtype}".replace("torch.", "")] = as_array(torch.stack(outputs))
    return arrays


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


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, arrays in (("quantizers.npz", quantizer_arrays()), ("layers.npz", layer_arrays())):
        np.savez_compressed(GOLDEN / name, allow_pickle=False, **arrays)
    save_arrays(GOLDEN / "models.npz", run_all([*CASES.values(), *DIFFERENT.values()]))
    save_arrays(GOLDEN / "students.npz", student_arrays())
    save_arrays(GOLDEN / "sixteen_bit.npz", sixteen_bit_arrays())
    facts = {
        "versions": {"deepspeed": deepspeed.__version__, "torch": torch.__version__.split("+")[0]},
        "quantizers": [name for name, _, _ in QUANTIZERS],
        "inexact_inputs": list(INEXACT),
        **schedule_facts(),
        "engine": engine_facts() | moq_facts(),
    }
    (GOLDEN / "facts.json").write_text(json.dumps(facts, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
