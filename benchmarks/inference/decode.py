"""One token at a time: single matrices, and all linear layers of a model one after the other.

Of a matrix there are so many copies, used in turn, that in bfloat16 they do not stay in the cache; so do the layers of
a model. Packed they may: that is part of what packing brings.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xtc_ds.formats import ActivationFormat, Grouping, get_format
from xtc_ds.runtime import PackedLinear, PackedSpec
from xtc_ds.storage import Coded

__all__ = ["decode_rows", "decode_table"]

# (outputs, inputs) of single matrices.
MATRICES = [(768, 768), (3072, 768), (2048, 2048), (5632, 2048), (4096, 4096), (11008, 4096)]
# The same of a block's layers, and the number of blocks.
MODELS: dict[str, tuple[list[tuple[int, int]], int]] = {
    "GPT-2-like, 85 M weights": ([(2304, 768), (768, 768), (3072, 768), (768, 3072)], 12),
    "Llama-like, 4 blocks of 2048, 201 M weights": (
        [(2048, 2048), (2048, 2048), (2048, 2048), (2048, 2048), (5632, 2048), (5632, 2048), (2048, 5632)], 4,
    ),
}  # fmt: skip
PACKED = ("int8", "int4", "ternary", "binary")
_COLD_BYTES = 160e6  # in bfloat16
_TURNS = 3  # of an engine in a round; the fastest counts


@dataclass
class _Engine:
    layers: list[Any]
    dtype: torch.dtype
    bytes: int  # of the weights that one pass reads

    def run(self) -> None:
        for layer, x in zip(self.layers, self._inputs, strict=True):
            layer(x)

    def __post_init__(self) -> None:
        sizes = [_inputs_of(layer) for layer in self.layers]
        made: dict[int, Tensor] = {size: torch.randn(1, size, dtype=self.dtype) for size in set(sizes)}
        self._inputs = [made[size] for size in sizes]


def decode_rows(threads: int, rounds: int) -> list[dict[str, Any]]:
    """Median ms of each engine for one pass, of a matrix for one product; engines take turns within a round."""
    torch.set_num_threads(threads)
    found = []
    for outputs, inputs in MATRICES:
        copies = max(2, round(_COLD_BYTES / (2 * outputs * inputs)))
        for row in _measured(_engines([(outputs, inputs)] * copies), rounds):
            each = {"ms": row["ms"] / copies, "bytes": row["bytes"] // copies}
            found.append({"model": f"{inputs} to {outputs}", "single": True, **row, **each})
    for model, (shapes, blocks) in MODELS.items():
        engines = _engines(shapes * blocks)
        alone = [_packed("binary", shape, None) for shape in shapes * blocks]
        engines["xtc_ds binary, float inputs"] = _Engine(alone, torch.float32, _bytes(alone))
        found += [{"model": model, "single": False, **row} for row in _measured(engines, rounds)]
    return found


def decode_table(found: list[dict[str, Any]]) -> str:
    """As Markdown, with ratios against torch in bfloat16, float32 and int8."""
    lines = []
    for model in dict.fromkeys(row["model"] for row in found):
        chosen = {row["engine"]: row for row in found if row["model"] == model}
        unit, factor = ("us", 1e3) if next(iter(chosen.values()))["single"] else ("ms", 1)
        lines += [
            f"| {model} | {unit} | x torch bf16 | x torch fp32 | x torch int8 | weights, MB | GB/s |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for name, row in chosen.items():
            ratios = [chosen[f"torch {peer}"]["ms"] / row["ms"] for peer in ("bf16", "fp32", "int8, dynamic")]
            cells = [f"{factor * row['ms']:.{1 if factor > 1 else 2}f}", *(f"{ratio:.1f}" for ratio in ratios)]
            cells += [f"{row['bytes'] / 1e6:.2f}", f"{row['bytes'] / row['ms'] / 1e6:.1f}"]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _measured(engines: dict[str, _Engine], rounds: int) -> list[dict[str, Any]]:
    times: dict[str, list[float]] = {name: [] for name in engines}
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for name, engine in engines.items():
                engine.run()
                times[name].append(min(_timed(engine.run) for _ in range(_TURNS)))
    result = [
        {"engine": name, "ms": statistics.median(times[name][1:]), "bytes": engine.bytes}
        for name, engine in engines.items()
    ]
    engines.clear()
    gc.collect()
    return result


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def _engines(shapes: list[tuple[int, int]]) -> dict[str, _Engine]:
    result: dict[str, _Engine] = {}
    numel = sum(outputs * inputs for outputs, inputs in shapes)
    for name, dtype in (("torch fp32", torch.float32), ("torch bf16", torch.bfloat16)):
        layers: list[Any] = [_dense(shape, dtype) for shape in shapes]
        result[name] = _Engine(layers, dtype, numel * dtype.itemsize)
    quantize: Any = torch.ao.quantization.quantize_dynamic
    layers = [quantize(nn.Sequential(_dense(shape)), {nn.Linear}, dtype=torch.qint8) for shape in shapes]
    result["torch int8, dynamic"] = _Engine(layers, torch.float32, numel)
    for name in PACKED:
        packed = [_packed(name, shape, ActivationFormat()) for shape in shapes]
        result[f"xtc_ds {name}, 8-bit inputs"] = _Engine(packed, torch.float32, _bytes(packed))
    return result


def _bytes(layers: list[PackedLinear]) -> int:
    return sum(layer.weight.numel() for layer in layers)


def _dense(shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> nn.Linear:
    outputs, inputs = shape
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=dtype)
    nn.init.constant_(layer.weight, 0.01)
    nn.init.zeros_(layer.bias)
    return layer  # type: ignore[no-any-return]


def _packed(name: str, shape: tuple[int, int], activation: ActivationFormat | None) -> PackedLinear:
    weight_format = get_format(name)
    layer = PackedLinear(PackedSpec("linear", Coded(get_format(name), Grouping("row"), shape), activation), bias=True)
    low, high = weight_format.code_range
    codes = torch.randint(low, high + 1, shape, dtype=torch.int8)
    if name == "binary":
        codes[codes == 0] = 1
    layer.weight.data = weight_format.pack(codes)
    layer.weight_scale.fill_(0.02)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer.eval()


def _inputs_of(layer: Any) -> int:
    return int(layer[0].in_features if isinstance(layer, nn.Sequential) else layer.in_features)
