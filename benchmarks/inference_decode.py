"""One token through all linear layers of a model, one after the other, so that no weight is still in the cache."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from xtc_ds.export import PackedLinear, PackedSpec
from xtc_ds.formats import ActivationFormat, Grouping, get_format

__all__ = ["decode_rows", "decode_table"]

# (outputs, inputs) of a block's layers, and the number of blocks.
SHAPES: dict[str, tuple[list[tuple[int, int]], int]] = {
    "GPT-2-like, 85 M weights": ([(2304, 768), (768, 768), (3072, 768), (768, 3072)], 12),
    "Llama-like, 4 blocks of 2048, 201 M weights": (
        [(2048, 2048), (2048, 2048), (2048, 2048), (2048, 2048), (5632, 2048), (5632, 2048), (2048, 5632)], 4,
    ),
}  # fmt: skip
PACKED = ("int8", "int4", "ternary", "binary")


def decode_rows(threads: int, rounds: int) -> list[dict[str, Any]]:
    """Median ms of each engine for each model, all engines in turn within a round."""
    torch.set_num_threads(threads)
    found = []
    for model, (shapes, blocks) in SHAPES.items():
        engines = _engines(shapes * blocks)
        times: dict[str, list[float]] = {name: [] for name in engines}
        with torch.inference_mode():
            for _ in range(rounds + 1):
                for name, (run, _) in engines.items():
                    run()
                    times[name].append(min(_timed(run) for _ in range(3)))
        for name, (_, size) in engines.items():
            found.append({"model": model, "engine": name, "ms": statistics.median(times[name][1:]), "bytes": size})
    return found


def decode_table(found: list[dict[str, Any]]) -> str:
    """As Markdown, with ratios against torch in bfloat16 and in the faster of float32 and bfloat16."""
    lines = []
    for model in dict.fromkeys(row["model"] for row in found):
        chosen = {row["engine"]: row for row in found if row["model"] == model}
        bf16, fp32 = chosen["torch bf16"]["ms"], chosen["torch fp32"]["ms"]
        lines += [f"| {model} | ms | x torch bf16 | x torch fp32 | weights, MB | GB/s |", "|---|---|---|---|---|---|"]
        for name, row in chosen.items():
            ms = row["ms"]
            speed = row["bytes"] / ms / 1e6
            lines.append(
                f"| {name} | {ms:.2f} | {bf16 / ms:.1f} | {fp32 / ms:.1f} | {row['bytes'] / 1e6:.1f} | {speed:.1f} |"
            )
        lines.append("")
    return "\n".join(lines)


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def _engines(shapes: list[tuple[int, int]]) -> dict[str, tuple[Callable[[], object], int]]:
    result: dict[str, tuple[Callable[[], object], int]] = {}
    numel = sum(outputs * inputs for outputs, inputs in shapes)
    for name, dtype in (("torch fp32", torch.float32), ("torch bf16", torch.bfloat16)):
        layers = [nn.Linear(inputs, outputs, dtype=dtype) for outputs, inputs in shapes]
        result[name] = (_through(layers, dtype), numel * dtype.itemsize)
    quantize: Any = torch.ao.quantization.quantize_dynamic
    int8 = [quantize(nn.Sequential(nn.Linear(i, o)), {nn.Linear}, dtype=torch.qint8) for o, i in shapes]
    result["torch int8, dynamic"] = (_through(int8, torch.float32), numel)
    for name in PACKED:
        packed = [_packed(name, shape) for shape in shapes]
        size = sum(layer.weight.numel() for layer in packed)
        result[f"xtc_ds {name}, 8-bit inputs"] = (_through(packed, torch.float32), size)
    return result


def _packed(name: str, shape: tuple[int, int]) -> PackedLinear:
    weight_format = get_format(name)
    layer = PackedLinear(PackedSpec("linear", name, Grouping("row"), shape, ActivationFormat()), bias=True)
    codes = weight_format.encode(torch.randn(shape)).codes
    layer.weight.data = weight_format.pack(codes)
    layer.weight_scale.fill_(0.02)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer.eval()


def _through(layers: list[Any], dtype: torch.dtype) -> Callable[[], object]:
    def inputs_of(layer: Any) -> int:
        return int(layer[0].in_features if isinstance(layer, nn.Sequential) else layer.in_features)

    inputs = {size: torch.randn(1, size, dtype=dtype) for size in map(inputs_of, layers)}
    pairs = [(layer, inputs[inputs_of(layer)]) for layer in layers]
    return lambda: [layer(x) for layer, x in pairs]
