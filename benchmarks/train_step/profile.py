"""Where the time of a step goes, by kind of work, and what the processor could do the products in."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["profile_step"]

_STEPS = 5
_FORWARD, _BACKWARD = "products of the forward", "products of the backward"
# The first that matches; names are those of torch's profiler.
_KINDS = (
    (_FORWARD, ("aten::addmm", "_IntegerLinear")),
    (_BACKWARD, ("aten::mm",)),
    ("codes and gradients made ready for the backward", ("_IntegerLinearBackward",)),
    ("random numbers of dropout (one thread)", ("aten::bernoulli_",)),
    ("products of attention", ("aten::bmm", "aten::_scaled_dot_product")),
    ("optimizer", ("aten::_fused_adamw_", "Optimizer.")),
    ("copies and casts", ("aten::copy_", "aten::_to_copy", "aten::fill_", "aten::zero_")),
)
_REST = "all else (norms, GELU, softmax, sums, encoding of weights, ...)"


def profile_step(step: Callable[[Any], Any], batch: dict[str, Tensor], model: nn.Module, words: set[str]) -> list[Any]:
    """(kind of work, ms a step, calls a step, least ms or None), the largest first.

    words: of the case. The least is for the linear layers' products at the rates that this processor reaches on a
    large matrix: int8 in the forward of codes, else float32 or bfloat16.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as run:
        for _ in range(_STEPS):
            step(batch)
    spent: dict[str, list[float]] = {}
    for event in run.key_averages():
        kind = next((kind for kind, names in _KINDS if _is_one(event.key, names)), _REST)
        found = spent.setdefault(kind, [0.0, 0.0])
        found[0] += event.self_cpu_time_total / 1000 / _STEPS
        found[1] += event.count / _STEPS
    least = _limits(batch, model, words, codes="_IntegerLinear" in {event.key for event in run.key_averages()})
    rows = [(kind, ms, round(calls), least.get(kind)) for kind, (ms, calls) in spent.items()]
    return sorted(rows, key=lambda row: -row[1])


def _is_one(name: str, names: tuple[str, ...]) -> bool:
    return any(name == given or (given.endswith((".", "product")) and name.startswith(given)) for given in names)


def _limits(batch: dict[str, Tensor], model: nn.Module, words: set[str], codes: bool) -> dict[str, float]:
    layers = [m for name, m in model.named_modules() if _is_linear(m) and not name.startswith(("classifier", "score"))]
    operations = 2 * batch["input_ids"].numel() * sum(layer.weight.numel() for layer in layers)
    half = "bf16" in words
    rates = {"forward": _rate(torch.int8 if codes else torch.bfloat16 if half else torch.float32)}
    rates["backward"] = _rate(torch.bfloat16 if half or (codes and "bf16backward" in words) else torch.float32)
    return {_FORWARD: 1e3 * operations / rates["forward"], _BACKWARD: 2e3 * operations / rates["backward"]}


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or any(kind.__name__ == "Conv1D" for kind in type(module).__mro__)


def _rate(dtype: torch.dtype) -> float:
    """Operations a second on a large product, the best of some."""
    size = 2048
    if dtype == torch.int8:
        a, b = (torch.randint(-127, 128, (size, size), dtype=torch.int8) for _ in range(2))
        product: Callable[[], Tensor] = lambda: torch._int_mm(a, b.t())  # noqa: E731
    else:
        x, y = (torch.randn(size, size).to(dtype) for _ in range(2))
        product = lambda: x @ y.t()  # noqa: E731
    taken = []
    for _ in range(6):
        began = time.perf_counter()
        product()
        taken.append(time.perf_counter() - began)
    return 2 * size**3 / min(taken)
