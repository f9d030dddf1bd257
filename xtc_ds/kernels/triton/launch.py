"""Launches kernels on the device of their tensors, with the configuration that was measured to be fastest there.

Shape legend: M = tokens, N = output features, K = input features.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.compiler.errors import CompileTimeAssertionFailure
from triton.runtime.errors import OutOfResources, PTXASError

from xtc_ds.kernels.triton.availability import interpreted

__all__ = ["Config", "Tuner", "bucket", "on_device", "result_dtype"]


class Config(NamedTuple):
    """Block sizes of a kernel; each kernel defines what ``n`` and ``k`` count (outputs, inputs or words)."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


def on_device(x: Tensor) -> AbstractContextManager[Any]:
    """Context in which the device of ``x`` is the current device, since Triton launches on the current device."""
    if x.device.type != "cuda" or x.device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(x.device)


def bucket(tokens: int) -> int:
    """``tokens`` rounded up to a power of two, from 16 to 4096: the key under which configurations are tuned."""
    return min(max(16, 1 << (tokens - 1).bit_length()), 4096)


def result_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that a kernel writes for results in ``dtype``.

    The interpreter truncates to bfloat16 instead of rounding, so there the kernel writes float32 and torch rounds.
    """
    return torch.float32 if interpreted() and dtype == torch.bfloat16 else dtype


class Tuner:
    """Autotuner: measures a few configurations once per key and then launches the fastest.

    Measuring synchronizes with the device; later launches do not. The first configuration must run everywhere: it is
    used in the interpreter and during the capture of a CUDA graph, where nothing can be measured.
    """

    def __init__(self, configs: Iterable[Config]) -> None:
        self.configs = tuple(configs)
        self._best: dict[Hashable, Config] = {}
        self._lock = threading.Lock()

    def launch(
        self,
        key: Hashable,
        run: Callable[[Config], object],
        fits: Callable[[Config], bool] = lambda config: True,
    ) -> None:
        """Call ``run`` with the fastest configuration for ``key`` that ``fits``; tuning calls it several times."""
        best = self._best.get(key)
        if best is None:
            fitting = [config for config in self.configs if fits(config)] or [self.configs[0]]
            if interpreted() or len(fitting) == 1 or torch.cuda.is_current_stream_capturing():
                best = fitting[0]
            else:
                with self._lock:
                    best = self._best[key] = min(fitting, key=lambda config: _seconds(lambda: run(config)))
        run(best)


def _seconds(run: Callable[[], object]) -> float:
    try:
        return float(triton.testing.do_bench(run, warmup=5, rep=20, return_mode="median"))
    except (OutOfResources, CompileTimeAssertionFailure, PTXASError):  # too large for this device
        return float("inf")
