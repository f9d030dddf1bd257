"""Example configs on two ranks, started once with the deepspeed runner; each rank writes its figures as JSON.

Run as ``deepspeed --num_accelerators 2 two_ranks.py OUT``. Both ranks get the same batches, so that losses and
masks are those of one rank with that batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import xtc_ds
from tests.examples.example_models import outputs_of
from tests.examples.running import adapted, architecture_of, example, soon, start, train
from tests.half_precision import allow_fp16
from tests.ranks import write_figures

ROWS = 8
NAMES = ("bert_structural_4x1", "bert_template_everything", "cifar_channels")


def run(name: str, stage: int, ranks: int) -> dict[str, Any]:
    config = soon(adapted(example(name), stage, ranks))
    # Small differences grow with Adam's first steps in fp16, and hide what is compared here.
    config["fp16"]["enabled"] = False
    config.pop("data_types", None)
    torch.manual_seed(7)
    engine = start(name, config)
    losses = train(name, engine, ROWS)
    frozen = xtc_ds.freeze(engine)
    figures = {
        "losses": losses,
        "logits": outputs_of(architecture_of(name), frozen).flatten().tolist(),
        "shapes": {key: list(tensor.shape) for key, tensor in frozen.state_dict().items()},
    }
    engine.destroy()
    return figures


def measure(out: Path) -> dict[str, Any]:
    with allow_fp16():
        return {name: run(name, 3, dist.get_world_size()) for name in NAMES}


if __name__ == "__main__":
    write_figures(measure)
