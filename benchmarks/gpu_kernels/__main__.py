"""Times of the Triton kernels on a GPU, beside bfloat16 and int8 products of the vendor's library.

    python -m benchmarks.gpu_kernels [--tokens 1 16 128 2048] [--shapes 4096x4096 ...] [--json FILE]

A time is the median of one layer's call (input quantized, multiplied, rescaled, bias added), recorded as a CUDA
graph so that the host's part is left out, over copies of the weight that together exceed the GPU's cache: each
call reads its weight from memory, as in a model. All rows of a table are measured in turns in one process. Bytes
are those of the weight as the kernel reads it.

Without a GPU the kernels run in Triton's interpreter, if TRITON_INTERPRET=1 is set: the results are compared with
the reference, and no time is given, for none would be a GPU's.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.common.arguments import argument_parser
from xtc_ds.formats import ActivationFormat, get_format
from xtc_ds.kernels import linear_on_codes
from xtc_ds.kernels.triton import triton_available

__all__ = ["main"]

WEIGHTS = {"W1": "binary", "W1.58": "ternary", "W4": "int4", "W8": "int8"}
SHAPES = ("768x3072", "4096x4096", "4096x14336", "8192x28672")
ROUNDS = 30
CALLS_IN_GRAPH = 64


@dataclass(frozen=True)
class Row:
    """One competitor at one shape and number of tokens. seconds: None where no GPU measured it."""

    name: str
    inputs: int
    outputs: int
    tokens: int
    weight_bytes: int
    seconds: float | None
    error: float


Call = Callable[[Tensor, int], Tensor]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status is 0, or 2 where the kernels do not run at all."""
    parser = argument_parser("benchmarks.gpu_kernels", __doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=None)
    parser.add_argument("--shapes", nargs="+", default=None, metavar="INPUTSxOUTPUTS")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    options = parser.parse_args(arguments)
    console = Console()
    device = next((name for name in ("cuda", "cpu") if triton_available(name)), None)
    if device is None:
        console.print("no GPU and no interpreter: install triton, and set TRITON_INTERPRET=1 on a CPU")
        return 2
    measured = device == "cuda"
    machine = torch.cuda.get_device_name() if measured else "Triton's interpreter on a CPU: no time here is a GPU's"
    console.print(f"{machine}; torch {torch.__version__}")
    rows: list[Row] = []
    for shape in options.shapes or (SHAPES if measured else ("40x24",)):
        inputs, outputs = (int(side) for side in shape.split("x"))
        for tokens in options.tokens or ((1, 16, 128, 2048) if measured else (1, 3)):
            found = compare(inputs, outputs, tokens, torch.device(device))
            console.print(table(found, measured))
            rows += found
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1))
    return 0


def compare(inputs: int, outputs: int, tokens: int, device: torch.device) -> list[Row]:
    """All competitors at one size."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float16
    x = torch.randn(tokens, inputs).to(device, dtype)
    calls: dict[str, tuple[Call, int, float]] = {}
    for label, name in WEIGHTS.items():
        for suffix, activation in (("A8", ActivationFormat()), ("A16", None)):
            calls[label + suffix] = ours(name, activation, inputs, outputs, x)
    calls |= library(inputs, outputs, x)
    seconds = times([call for call, _, _ in calls.values()], x) if device.type == "cuda" else [None] * len(calls)
    return [
        Row(name, inputs, outputs, tokens, size, time, error)
        for (name, (_, size, error)), time in zip(calls.items(), seconds, strict=True)
    ]


def ours(
    name: str, activation: ActivationFormat | None, inputs: int, outputs: int, x: Tensor
) -> tuple[Call, int, float]:
    """The call of our kernels on copy i of a random weight, the weight's bytes, and the error to the reference."""
    from xtc_ds.kernels.triton.linear import linear, triton_weight, weight_only_linear

    weight_format = get_format(name)
    encoded = weight_format.encode(torch.randn(outputs, inputs).to(x.device))
    scale, bias = encoded.scale.flatten().contiguous(), torch.randn(outputs).to(x)
    first = triton_weight(encoded.codes, weight_format)
    size = first.words.nbytes
    weights = [first] + [triton_weight(encoded.codes, weight_format) for _ in range(copies(size, x) - 1)]

    def call(x: Tensor, i: int) -> Tensor:
        weight = weights[i % len(weights)]
        return weight_only_linear(x, weight, scale, bias) if activation is None else linear(x, weight, scale, bias)

    if activation is None:
        reference = F.linear(x, encoded.decode(x.dtype), bias)
    else:
        reference = linear_on_codes(x, encoded, activation, None, bias)
    error = (call(x, 0).float() - reference.float()).norm() / reference.float().norm()
    return call, size, float(error)


def library(inputs: int, outputs: int, x: Tensor) -> dict[str, tuple[Call, int, float]]:
    """Half-precision and int8 products of the vendor's library; the latter without quantizing or rescaling."""
    w = torch.randn(outputs, inputs).to(x)
    halves = [w] + [w.clone() for _ in range(copies(w.nbytes, x) - 1)]
    found: dict[str, tuple[Call, int, float]] = {
        "library 16 bit": (lambda x, i: F.linear(x, halves[i % len(halves)]), w.nbytes, 0.0)
    }
    codes = torch.ones(len(x), inputs, dtype=torch.int8, device=x.device)
    w_int8 = torch.ones(outputs, inputs, dtype=torch.int8, device=x.device)
    if x.device.type == "cuda" and len(x) > 16 and not inputs % 8 and not outputs % 8:
        bytes_ = [w_int8] + [w_int8.clone() for _ in range(copies(w_int8.nbytes, x) - 1)]
        found["library int8"] = (lambda x, i: torch._int_mm(codes, bytes_[i % len(bytes_)].t()), w_int8.nbytes, 0.0)
    return found


def copies(size: int, x: Tensor) -> int:
    """How many weights of ``size`` bytes together exceed the cache twice."""
    if x.device.type != "cuda":
        return 1
    return min(64, 1 + 2 * torch.cuda.get_device_properties(x.device).L2_cache_size // size)


def times(calls: list[Call], x: Tensor) -> list[float | None]:
    """Median seconds of each call, measured in turns."""
    graphs = [recorded(call, x) for call in calls]
    samples: list[list[float]] = [[] for _ in graphs]
    for _ in range(ROUNDS):
        for graph, found in zip(graphs, samples, strict=True):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            found.append(start.elapsed_time(end) / 1e3 / CALLS_IN_GRAPH)
    return [statistics.median(found) for found in samples]


def recorded(call: Call, x: Tensor) -> torch.cuda.CUDAGraph:
    """``CALLS_IN_GRAPH`` calls, each with the next copy of the weight, as one graph."""
    call(x, 0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(CALLS_IN_GRAPH):
            call(x, i)
    graph.replay()
    return graph


def table(rows: list[Row], measured: bool) -> Table:
    """The rows of one size, each beside the library's 16 bits; without times where no GPU measured them."""
    first = rows[0]
    result = Table(title=f"{first.inputs} x {first.outputs}, {first.tokens} tokens")
    for column in ("", *(("µs", "x 16 bit", "GB/s of weights") if measured else ()), "weight kB", "relative error"):
        result.add_column(column, justify="right" if column else "left")
    base = next(row.seconds for row in rows if row.name == "library 16 bit")
    for row in rows:
        cells = []
        if row.seconds is not None and base is not None:
            speed = row.weight_bytes / row.seconds / 1e9
            cells = [f"{row.seconds * 1e6:.1f}", f"{base / row.seconds:.2f}", f"{speed:.0f}"]
        result.add_row(row.name, *cells, f"{row.weight_bytes / 1e3:.1f}", f"{row.error:.1e}")
    return result


if __name__ == "__main__":
    sys.exit(main())
