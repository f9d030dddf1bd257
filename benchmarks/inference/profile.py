"""Where the time of the fused runtime goes: each kernel alone, on all layers of a model, beside what limits it.

A limit is the kernel's multiplications and additions at the rate that this processor reaches with products of registers
alone, measured in the same run; nothing is counted for what else the kernel does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import xtc_ds
from xtc_ds.errors import ExportError
from xtc_ds.kernels.attention import attend
from xtc_ds.kernels.encoder import add_norm_, encoder_kernel_works, gelu_
from xtc_ds.kernels.native import TiledLayer, native_library, quantize_input, tiled_product
from xtc_ds.runtime import PackedLinear

__all__ = ["profile_rows", "profile_table"]

_PEAK_STEPS = 100_000


@dataclass
class Part:
    """run: the kernel on all layers. codes, floats: its multiplications and additions of codes and of floats."""

    name: str
    run: Callable[[], object]
    codes: int = 0
    floats: int = 0


def profile_rows(folder: Path, batch: int, tokens: int, threads: int, rounds: int) -> list[dict[str, Any]]:
    """Median ms of every kernel and of the whole, in turn within a round, with the limits of the same rounds."""
    if not encoder_kernel_works(torch.zeros(1)):
        raise ExportError("the fused runtime needs a processor with AVX-512 VNNI and a C compiler")
    torch.set_num_threads(threads)
    parts = _parts(xtc_ds.load(folder, runtime="fused"), batch, tokens)
    times: dict[str, list[float]] = {part.name: [] for part in parts}
    peaks: dict[bool, list[float]] = {False: [], True: []}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for is_float, found in peaks.items():
                found.append(_peak(is_float, threads))
            for part in parts:
                measured = min(_timed(part.run) for _ in range(3))
                if number:
                    times[part.name].append(measured)
    rates = {is_float: max(found) for is_float, found in peaks.items()}
    return [
        {
            "part": part.name,
            "ms": statistics.median(times[part.name]),
            "limit_ms": 1e3 * (part.codes / rates[False] + part.floats / rates[True]) or None,
            "gops": rates[False] / 1e9,
            "gflops": rates[True] / 1e9,
        }
        for part in parts
    ]


def profile_table(title: str, found: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = [f"| {title} | ms | limit, ms | of the limit |", "|---|---:|---:|---:|"]
    for row in found:
        limit = row["limit_ms"]
        cells = ("", "") if limit is None else (f"{limit:.2f}", f"{100 * limit / row['ms']:.0f} %")
        lines.append(f"| {row['part']} | {row['ms']:.2f} | {cells[0]} | {cells[1]} |")
    rates = found[0]
    lines.append("")
    lines.append(f"Limits: {rates['gops']:.0f} GOP/s of 8-bit codes, {rates['gflops']:.0f} GFLOP/s of float32.")
    return "\n".join(lines)


def _parts(model: Any, batch: int, tokens: int) -> list[Part]:
    config, rows = model.config, batch * tokens
    encoder = model.bert.encoder
    linears = [layer for module in encoder.modules() if isinstance(module, PackedLinear) and (layer := module.tiled())]
    inputs = {size: torch.randn(rows, size) for size in {layer.weight.inputs for layer in linears}}
    width, inner = config.hidden_size, config.intermediate_size
    x, residual, hidden = (torch.randn(batch, tokens, width) for _ in range(3))
    heads = config.num_attention_heads
    q, k, v = (torch.randn(batch, tokens, heads, width // heads).transpose(1, 2) for _ in range(3))
    up, norm = torch.randn(rows, inner), (torch.ones(width), torch.zeros(width))
    layers = range(config.num_hidden_layers)
    ids = torch.randint(0, config.vocab_size, (batch, tokens))
    products = 2 * rows * sum(layer.weight.inputs * layer.outputs for layer in linears)
    attention = 4 * batch * tokens * tokens * width * len(layers)
    # As in the fused layer: query, key and value are of one input.
    rounded = [inputs[size] for _ in layers for size in (width, width, width, inner)]
    made = {id(value): quantize_input(value, 8) for value in inputs.values()}
    return [
        Part(
            "products of codes, rescaled, plus bias",
            lambda: [_product(layer, made[id(inputs[layer.weight.inputs])]) for layer in linears],
            codes=products,
        ),
        Part("rounding inputs to codes", lambda: [quantize_input(value, 8) for value in rounded]),
        Part("attention, float32", lambda: [attend(q, k, v, None, 0.1) for _ in layers], floats=attention),
        Part("GELU", lambda: [gelu_(up) for _ in layers]),
        Part("sums with normalization", lambda: [add_norm_(x, residual, *norm, 1e-12) for _ in (*layers, *layers)]),
        Part("all layers in one call", lambda: encoder(hidden), codes=products, floats=attention),
        Part("the whole model", lambda: model(input_ids=ids), codes=products, floats=attention),
    ]


def _product(layer: TiledLayer, codes: Any) -> Tensor:
    return tiled_product(codes, layer.weight, layer.scale, layer.bias)


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def _peak(is_float: bool, threads: int) -> float:
    library = native_library()
    assert library is not None, "asked before"
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        done = library.peak(is_float, _PEAK_STEPS, threads)
        best = max(best, done / (time.perf_counter() - start))
    return best
