"""Run by the deepspeed runner on two ranks: the losses of a few steps under ZeRO stages and plain DDP, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import deepspeed
import torch
from distillation_models import batch, distiller, tiny_model, without_dropout
from torch.nn.parallel import DistributedDataParallel

STEPS = 2
ACCUMULATION = 2


def models() -> tuple[Any, Any, Any]:
    student, teacher = without_dropout(tiny_model("bert", seed=1, width=16)), tiny_model("bert", seed=2, layers=4)
    torch.manual_seed(0)
    return student, teacher, distiller(student, teacher, attention_type="relations", hard_label_weight=0.5)


def micro_batches() -> list[dict[str, torch.Tensor]]:
    shift = torch.distributed.get_rank()
    return [batch((7 - shift, 4, 6 - i)) for i in range(STEPS * ACCUMULATION)]


def with_zero(stage: int) -> list[float]:
    student, teacher, made = models()
    config = {
        "train_micro_batch_size_per_gpu": 3,
        "gradient_accumulation_steps": ACCUMULATION,
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
        "optimizer": {"type": "SGD", "params": {"lr": 0.01}},
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": 0.0,  # DeepSpeed clips at 1 by default
        "steps_per_print": 1_000_000,
    }
    engine, *_ = deepspeed.initialize(model=student, config=config)
    losses = []
    for inputs in micro_batches():
        loss = engine(**inputs).loss
        engine.backward(loss)
        engine.step()
        losses.append(float(loss.detach()))
        engine.eval()  # an evaluation in between changes nothing
        with torch.no_grad():
            engine(**inputs)
        engine.train()
    assert all(p.grad is None for p in teacher.parameters())
    assert set(made.last_parts) == {"loss", "logits", "hidden", "attention", "hard"}
    return losses


def with_ddp() -> list[float]:
    student, _, _ = models()
    parallel = DistributedDataParallel(student)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
    losses = []
    for index, inputs in enumerate(micro_batches()):
        loss = parallel(**inputs).loss
        (loss / ACCUMULATION).backward()
        losses.append(float(loss.detach()))
        if (index + 1) % ACCUMULATION == 0:
            optimizer.step()
            optimizer.zero_grad()
    return losses


def main() -> None:
    # Gloo does without the extension, and compiling it takes most of a minute.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo")
    results = {"ddp": with_ddp(), **{f"zero{stage}": with_zero(stage) for stage in (0, 2, 3)}}
    if torch.distributed.get_rank() == 0:
        output = next(argument for argument in sys.argv if argument.endswith(".json"))
        Path(output).write_text(json.dumps(results))


main()
