"""Pruning runs: what two ranks note down of their masks, scores and losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist

import xtc_ds
from tests.engine.rank_training import train
from tests.half_precision import allow_fp16
from tests.pruning.configs import all_prunings
from tests.pruning.masks import SCORE_NAMES, kept_units, pruning_rows, sparse_mask
from tests.tiny import ds_config, tiny_model
from xtc_ds.layers import compressed_layers
from xtc_ds.techniques.sparse_pruning.rows import SparseRow
from xtc_ds.zero import gathered

__all__ = ["PRUNING_RUNS", "pruning_run"]

# Name to stage, precision and whether the model is partitioned before the engine sees it.
PRUNING_RUNS: dict[str, tuple[int, str, bool]] = {
    "pruning-0": (0, "fp32", False),
    "pruning-3": (3, "fp32", True),
    "pruning-fp16-1": (1, "fp16", False),
    "pruning-bf16-3": (3, "bf16", False),
}


def pruning_run(name: str, out: Path) -> dict[str, Any]:
    """Six steps with a checkpoint after the third, and the last three again from it."""
    stage, precision, zero_init = PRUNING_RUNS[name]
    with allow_fp16():
        engine = _engine(stage, precision, zero_init, seed=0)
        first = _scores(engine)
        losses = train(engine, 3, 0)
        engine.save_checkpoint(str(out / name))
        losses += train(engine, 3, 3)
        figures = {"losses": losses, "first_scores": first, "scores": _scores(engine), **_masks(engine)}
        engine.destroy()
        # Another seed: every mask and score must come from the checkpoint.
        again = _engine(stage, precision, zero_init, seed=7)
        again.load_checkpoint(str(out / name))
        figures["resumed"] = {"losses": train(again, 3, 3), "scores": _scores(again), **_masks(again)}
        again.destroy()
    return figures


def _engine(stage: int, precision: str, zero_init: bool, seed: int) -> Any:
    config = ds_config(
        all_prunings(),
        zero_optimization={"stage": stage},
        optimizer={"type": "AdamW", "params": {"lr": 1e-2, "torch_adam": True}},
        zero_force_ds_cpu_optimizer=False,
        **({} if precision == "fp32" else {precision: {"enabled": True}}),
    )
    if precision == "fp16":
        config["fp16"]["initial_scale_power"] = 8
    model = tiny_model(layers=2)
    if zero_init:
        plain = {key: value for key, value in config.items() if key != "compression_training"}
        deepspeed.zero.Init(module=model, config_dict_or_path=plain)
    elif dist.get_rank():
        # DeepSpeed spreads the weights of rank 0; masks made from other weights must follow them.
        model.bert.encoder.layer[0].intermediate.dense.weight.data.mul_(torch.linspace(2, 0, 64).unsqueeze(1))
    torch.manual_seed(seed + dist.get_rank())
    return xtc_ds.initialize(model=model, config=config, model_parameters=list(model.parameters()))[0]


def _masks(engine: Any) -> dict[str, Any]:
    """Positions that each mask keeps, and the scores of snip_momentum."""
    kept: dict[str, list[int]] = {}
    momentum: list[float] = []
    for name, layer in compressed_layers(engine.module):
        for rule in pruning_rows(layer):
            mask = sparse_mask(layer) if isinstance(rule, SparseRow) else kept_units(layer, rule)
            assert mask is not None
            kept[f"{name} {type(rule).__name__}"] = mask.flatten().nonzero().flatten().tolist()
        if hasattr(layer, "snip_momentum"):
            assert layer.snip_momentum.scores.dtype == torch.float32
            momentum += layer.snip_momentum.scores.flatten().tolist()
    return {"masks": kept, "momentum": momentum}


def _scores(engine: Any) -> dict[str, float]:
    """A sum over every tensor of learned scores."""
    found = {}
    for name, parameter in engine.module.named_parameters():
        if name.rpartition(".")[2] in SCORE_NAMES:
            with gathered([parameter]):
                found[name] = float(parameter.detach().double().abs().sum())
    return found
