"""Runs with teachers that are partitioned or of 8 bits: what two ranks note down of their losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deepspeed
import torch
from torch import nn

import xtc_ds
from tests.engine.rank_training import train
from tests.tiny import block, ds_config, tiny_model
from xtc_ds.errors import DistillationError
from xtc_ds.layers import compressed_layers

__all__ = ["TEACHER_RUNS", "refused_int8", "teacher_run"]

TEACHER_RUNS = [("plain", 0), ("partitioned", 0), ("partitioned", 3), ("int8", 0), ("int8", 3)]


def teacher_run(kind: str, stage: int, out: Path) -> dict[str, Any]:
    """Two steps, a checkpoint, two more, and the last two again from it. kind: "plain", "partitioned" or "int8"."""
    folder = str(out / f"teacher-{kind}-{stage}")
    teacher = _teacher(kind)
    engine = _engine(kind, stage, teacher)
    losses = train(engine, 2, 0)
    engine.save_checkpoint(folder)
    figures = {"losses": losses + train(engine, 2, 2)}
    whole = [parameter.numel() for parameter in engine.xtc.distiller.teacher.parameters()]
    figures["teacher_kept_whole"] = sum(whole)
    engine.destroy()
    again = _engine(kind, stage, teacher)
    again.load_checkpoint(folder)
    figures["resumed"] = train(again, 2, 2)
    again.destroy()
    return figures


def refused_int8() -> dict[str, Any]:
    """What is said of a teacher that is partitioned and is to have 8 bits, and whether the student is still plain."""
    student = tiny_model()
    try:
        _engine("int8", 0, _teacher("partitioned"), student)
    except DistillationError as error:
        return {"message": str(error), "compressed": len(list(compressed_layers(student)))}
    return {"message": "", "compressed": -1}


def _teacher(kind: str) -> Any:
    teacher = tiny_model()
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    if kind != "partitioned":
        return teacher
    zero = {"stage": 3, "stage3_param_persistence_threshold": 0}
    return deepspeed.initialize(model=teacher, config={"train_batch_size": 8, "zero_optimization": zero})[0]


def _engine(kind: str, stage: int, teacher: Any, student: nn.Module | None = None) -> Any:
    kd = {"temperature": 2.0, **({"teacher_dtype": "int8"} if kind == "int8" else {})}
    config = ds_config(
        block(reduction={"keep_number_layer": 2}, kd=kd),
        zero_optimization={"stage": stage},
        optimizer={"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
        zero_force_ds_cpu_optimizer=False,
    )
    model = tiny_model() if student is None else student
    parameters = list(model.parameters())
    return xtc_ds.initialize(model=model, config=config, model_parameters=parameters, teacher=teacher)[0]
