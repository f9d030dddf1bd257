"""Runs with formats that learn their levels: what two ranks note down of codebooks, codes and the shipped model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist

import xtc_ds
from tests.engine.rank_training import train
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.zero import gathered

__all__ = ["LEARNED_RUNS", "learned_run"]

# Name to stage, precision, whether the model is partitioned before the engine sees it, assignment and first step.
LEARNED_RUNS: dict[str, tuple[int, str, bool, str, int]] = {
    "fixed-0": (0, "fp32", False, "fixed", 0),
    "fixed-1": (1, "fp32", False, "fixed", 0),
    "fixed-2": (2, "fp32", False, "fixed", 0),
    "fixed-3": (3, "fp32", True, "fixed", 0),
    "fixed-bf16-2": (2, "bf16", False, "fixed", 0),
    "late-0": (0, "fp32", False, "fixed", 2),
    "late-3": (3, "fp32", False, "fixed", 2),
    "nearest-0": (0, "fp32", False, "nearest", 0),
    "nearest-3": (3, "fp32", True, "nearest", 0),
}


def learned_run(name: str, out: Path) -> dict[str, Any]:
    """Six steps with a checkpoint after the third, the model shipped, and the last three steps from the checkpoint."""
    engine = _engine(name, seed=0)
    losses = train(engine, 3, 0)
    engine.save_checkpoint(str(out / name))
    losses += train(engine, 3, 3)
    figures = {"losses": losses, **_state(engine), **_shipped(engine, out / f"packed-{name}")}
    engine.destroy()
    again = _engine(name, seed=7)  # other weights: all must come from the checkpoint
    again.load_checkpoint(str(out / name))
    figures["resumed"] = {"losses": train(again, 3, 3), **_state(again)}
    again.destroy()
    return figures


def _engine(name: str, seed: int) -> Any:
    stage, precision, zero_init, assignment, offset = LEARNED_RUNS[name]
    params = {"format": "kmeans", "assignment": assignment}
    shared = {"schedule_offset": offset, "granularity": "tensor"}
    config = ds_config(
        block(2, None, params=params, shared=shared, exclude=["classifier"]),
        zero_optimization={"stage": stage},
        optimizer={"type": "AdamW", "params": {"lr": 1e-2, "torch_adam": True}},
        zero_force_ds_cpu_optimizer=False,
        **({} if precision == "fp32" else {precision: {"enabled": True}}),
    )
    model = tiny_model(layers=2)
    if seed:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)
    if zero_init:
        plain = {key: value for key, value in config.items() if key != "compression_training"}
        deepspeed.zero.Init(module=model, config_dict_or_path=plain)
    elif dist.get_rank():
        # DeepSpeed spreads the weights of rank 0; codebooks made from other weights must follow them.
        model.bert.encoder.layer[0].intermediate.dense.weight.data.mul_(2)
    return xtc_ds.initialize(model=model, config=config, model_parameters=list(model.parameters()))[0]


def _state(engine: Any) -> dict[str, Any]:
    """Every value that the formats have learned, and sums over the codes."""
    learned: dict[str, list[float]] = {}
    for name, parameter in engine.module.named_parameters():
        if name.endswith("weight_quantizer.codebook"):
            with gathered([parameter]):
                learned[name] = parameter.detach().float().flatten().tolist()
    starts = {n: b.flatten().tolist() for n, b in engine.module.named_buffers() if n.endswith("codebook_start")}
    codes = {n: int(b.long().abs().sum()) for n, b in engine.module.named_buffers() if n.endswith(".codes")}
    return {"learned": learned, "starts": starts, "codes": codes}


def _shipped(engine: Any, folder: Path) -> dict[str, Any]:
    """Logits while training, of the frozen model and of the one that was written and read."""
    inputs = batch(labels=False, seed=99)
    frozen = xtc_ds.freeze(engine, "float32")
    engine.eval()
    with torch.no_grad():
        trained = engine(**inputs).logits.float().flatten().tolist()
        shipped = frozen(**inputs).logits.flatten().tolist()
    report = xtc_ds.export_packed(frozen, folder)
    dist.barrier()
    with torch.no_grad():
        reloaded = xtc_ds.load(folder)(**inputs).logits.flatten().tolist()
    return {"trained": trained, "shipped": shipped, "reloaded": reloaded, "tensor_bytes": report.tensor_bytes}
