"""How long a run waits for compression before its first step: validate, plan, rewrite.

    python -m benchmarks.startup

A Llama of 6.7 billion parameters (the defaults of transformers' ``LlamaConfig``) on the meta device, 1-bit weights and
8-bit inputs; building the model is not counted. A run waits for the first; later models of the process find schema and
sources read.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers

import xtc_ds
from benchmarks.common.arguments import argument_parser
from xtc_ds.rewrite import apply_plan

__all__ = ["main", "measure"]

BLOCK: dict[str, Any] = {
    "weight_quantization": {
        "shared_parameters": {"enabled": True, "granularity": "row"},
        "different_groups": {
            "all": {"params": {"start_bits": 1, "target_bits": 1}, "modules": ["*"], "exclude": ["lm_head"]}
        },
    },
    "activation_quantization": {
        "shared_parameters": {"enabled": True, "schedule_offset": 0},
        "different_groups": {"all": {"params": {"bits": 8}, "modules": ["*"], "exclude": ["lm_head", "embed_tokens"]}},
    },
}
PHASES = ("validate", "plan", "rewrite")


def measure(config: Any) -> dict[str, float]:
    """Seconds of each phase for one fresh model of a transformers config, and its parameters."""
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    seconds: dict[str, float] = {"parameters": sum(parameter.numel() for parameter in model.parameters())}

    def timed(phase: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = work()
        seconds[phase] = time.perf_counter() - began
        return result

    ds_config = {"train_batch_size": 1, "compression_training": BLOCK}
    block = timed("validate", lambda: xtc_ds.load_config(ds_config))[1]
    plan = timed("plan", lambda: xtc_ds.make_plan(model, block))
    timed("rewrite", lambda: apply_plan(model, plan, None))
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argument_parser("benchmarks.startup", __doc__)
    parser.add_argument("--rounds", type=int, default=5, help="after the first; default: 5")
    rounds = parser.parse_args(argv).rounds
    found = [measure(transformers.LlamaConfig()) for _ in range(1 + rounds)]
    for one in found:
        one["in all"] = sum(one[phase] for phase in PHASES)
    print(f"| {found[0]['parameters'] / 1e9:.1f} billion parameters | first, s | median of {rounds} more, s |")
    print("|---|---:|---:|")
    for phase in (*PHASES, "in all"):
        later = statistics.median(one[phase] for one in found[1:])
        print(f"| {phase} | {found[0][phase]:.3f} | {later:.3f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
