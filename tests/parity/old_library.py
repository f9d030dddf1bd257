"""Runs cases in DeepSpeed 0.19.6; only imported in an environment that has it.

As a program: ``python -m tests.parity.old_library CASES.json RESULTS.npz``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from deepspeed.compression.compress import init_compression, redundancy_clean
from deepspeed.compression.config import get_compression_config
from deepspeed.compression.scheduler import compression_scheduler
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.parity.arrays import save_arrays
from tests.parity.cases import Case
from tests.parity.models import MODELS, fill
from tests.parity.outcome import outcome


@contextmanager
def channel_norms_mended() -> Iterator[None]:
    """Let channel pruning by l1 work: it asks ``torch.linalg.norm`` for three dimensions, which is an error."""
    original = torch.linalg.norm

    def norm(w: Tensor, ord: Any = None, dim: Any = None) -> Tensor:
        result: Tensor = original(w, ord=ord, dim=dim) if dim != [1, 2, 3] else w.abs().sum(dim=dim)
        return result

    torch.linalg.norm = norm
    try:
        yield
    finally:
        torch.linalg.norm = original


def enable(model: nn.Module, config: dict[str, Any]) -> None:
    """Put every technique of the block in force, as the engine does before the first forward.

    The scheduler dies of a KeyError on sparse pruning with l1 or topk: there the switch is set by hand.
    """
    block = dict(get_compression_config(config))
    sparse = block.pop("sparse_pruning")
    scheduler = compression_scheduler(model, {**block, "sparse_pruning": {**sparse, "different_groups": {}}})
    scheduler.different_compression_methods["sparse_pruning"]["enabled"] = False
    scheduler.step(step_zero_check=True)
    for module in model.modules():
        if getattr(module, "sparse_pruning_method", None):
            setattr(module, "sparse_pruning_enabled", True)  # noqa: B010
        # Convolutions have no such attribute where nothing quantizes their weight.
        if not hasattr(module, "weight_quantization_enabled"):
            setattr(module, "weight_quantization_enabled", False)  # noqa: B010


def masks(model: nn.Module) -> dict[str, Tensor]:
    """``<module>/<kind>`` -> the mask in force, of 0 and 1."""
    found = {}
    for name, module in model.named_modules():
        for kind in ("sparse", "row", "head", "channel"):
            if getattr(module, f"{kind}_pruning_method", None):
                mask = module.get_mask(pruning_type=kind)
                found[f"{name}/{kind}"] = mask if kind == "sparse" else mask.flatten()
    return found


def run(case: Case) -> dict[str, NDArray[Any]]:
    """Masks, output, gradients and range of a forward and backward; state and output of the cleaned model."""
    model = MODELS[case.model]()
    fill(model, case.values, case.seed)
    config = {"compression_training": json.loads(json.dumps(case.block))}
    with channel_norms_mended():
        model = init_compression(model, config)
    fill(model, case.values if case.has_ties else "distinct", case.seed, only="_scores")
    # The engine makes a model 16-bit after it was rewritten; scores made in a 16-bit model stay float32 and fail.
    model = model.to(getattr(torch, case.dtype))
    enable(model, config)
    return outcome(case, model, masks, lambda model: redundancy_clean(model, config))


def run_all(cases: list[Case]) -> dict[str, NDArray[Any]]:
    """``<case>:<result>`` -> array."""
    return {f"{case.name}:{key}": value for case in cases for key, value in run(case).items()}


def main() -> None:
    cases = [Case(**entry) for entry in json.loads(Path(sys.argv[1]).read_text())]
    save_arrays(Path(sys.argv[2]), run_all(cases))


if __name__ == "__main__":
    main()
