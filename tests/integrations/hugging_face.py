"""Trainer and Accelerate in a process that the deepspeed runner starts; figures go to a JSON file.

Run as ``deepspeed --num_accelerators 1 hugging_face.py OUT``: Accelerate knows of no DeepSpeed on several CPUs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import deepspeed
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DeepSpeedPlugin
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments, set_seed

import xtc_ds
from tests.tiny import batch, block, tiny_model
from xtc_ds.integrations import CompressionCallback, install

STEPS, SAVED = 4, 2
OPTIMIZER = {"type": "AdamW", "params": {"lr": "auto", "torch_adam": True}}


def config(stage: int, teacher: Path) -> dict[str, Any]:
    """As people write it for transformers, with the block added."""
    falling = {"start_bits": 3, "target_bits": 1, "quantization_period": 1}
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "zero_optimization": {
            "stage": stage, "stage3_param_persistence_threshold": 0, "stage3_gather_16bit_weights_on_model_save": True
        },
        "optimizer": OPTIMIZER,
        "zero_force_ds_cpu_optimizer": False,
        "compression_training": block(
            params=falling, reduction={"keep_number_layer": 2}, kd={"teacher": str(teacher)}, export="float32"
        ),
    }  # fmt: skip


def rows() -> list[dict[str, torch.Tensor]]:
    whole = batch(rows=16)
    return [{name: tensor[row] for name, tensor in whole.items()} for row in range(16)]


def trainer(stage: int, base: Path, out: Path) -> Trainer:
    AcceleratorState._reset_state()
    arguments = TrainingArguments(
        str(out / "run"), deepspeed=config(stage, base), per_device_train_batch_size=2, max_steps=STEPS,
        save_steps=SAVED, logging_steps=1, report_to=[], disable_tqdm=True, seed=3, learning_rate=1e-3,
    )  # fmt: skip
    set_seed(3)
    # After the arguments: at stage 3 transformers then partitions the parameters while they are read.
    model = AutoModelForSequenceClassification.from_pretrained(base)
    callback = CompressionCallback(out / "packed", scores={"accuracy": 0.5})
    return Trainer(model, arguments, train_dataset=rows(), callbacks=[callback])  # type: ignore[arg-type]


def trainer_run(stage: int, base: Path, out: Path) -> dict[str, Any]:
    first = trainer(stage, base, out)
    first.train()
    logits = shipped(xtc_ds.freeze(first.model_wrapped))
    again = trainer(stage, base, out)
    again.train(resume_from_checkpoint=str(out / "run" / f"checkpoint-{SAVED}"))
    return {
        "logs": first.state.log_history,
        "resumed": again.state.log_history,
        "shipped": logits,
        "loaded": shipped(AutoModelForSequenceClassification.from_pretrained(out / "packed")),
    }


def accelerate_run(base: Path) -> dict[str, Any]:
    AcceleratorState._reset_state()
    given = {**config(2, base), "train_batch_size": 2, "train_micro_batch_size_per_gpu": 2}
    given = {key: value for key, value in given.items() if key not in ("optimizer", "gradient_accumulation_steps")}
    accelerator = Accelerator(deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=given))
    model = AutoModelForSequenceClassification.from_pretrained(base)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader: Any = DataLoader(rows(), batch_size=2)  # type: ignore[arg-type]
    engine, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    losses = []
    for inputs in loader:
        loss = engine(**inputs).loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return {"losses": losses, "bits": engine.xtc.schedule.bits()["weights"], "shipped": shipped(xtc_ds.freeze(engine))}


def shipped(frozen: Any) -> list[list[float]]:
    with torch.no_grad():
        found: list[list[float]] = frozen.eval()(**batch(labels=False)).logits.tolist()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--local_rank", type=int)
    out = parser.parse_args().out
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    install()
    base = out / "base"
    tiny_model().save_pretrained(base)
    figures = {f"trainer{stage}": trainer_run(stage, base, out / str(stage)) for stage in (0, 2, 3)}
    figures["accelerate"] = accelerate_run(base)
    (out / "rank0.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
