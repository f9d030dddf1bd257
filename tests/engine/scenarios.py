"""Training runs on two ranks; figures go to one JSON file per rank.

Run as ``deepspeed --num_accelerators 2 scenarios.py OUT NAME``. Every scenario trains tiny classifiers on the
same global batches and notes what the tests assert.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist

import xtc_ds
from tests.engine.collectives import STAGES, collectives_run
from tests.engine.learned_runs import LEARNED_RUNS, learned_run
from tests.engine.moq import two_rank_run
from tests.engine.pruning_runs import PRUNING_RUNS, pruning_run
from tests.engine.rank_training import train
from tests.engine.teacher_runs import TEACHER_RUNS, refused_int8, teacher_run
from tests.half_precision import fp16_supported
from tests.ranks import write_figures
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.layers import compressed_layers
from xtc_ds.zero import gathered

STEPS = 3
KD = {"teacher": "self", "temperature": 2.0}
MOQ_RUNS = [("fp32", 0), ("fp32", 1), ("fp32", 2), ("fp32", 3), ("bf16", 2), ("fp16", 1), ("fp16", 3)]


def build(
    stage: int,
    accumulation: int = 1,
    zero_init: bool = False,
    precision: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Any:
    compression = block(reduction={"keep_number_layer": 2}, kd=KD, **kwargs)
    config = ds_config(
        compression,
        zero_optimization={"stage": stage},
        gradient_accumulation_steps=accumulation,
        train_micro_batch_size_per_gpu=4 // accumulation,
        optimizer={"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
        zero_force_ds_cpu_optimizer=False,
        **(precision or {}),
    )
    if zero_init:
        plain = {key: value for key, value in config.items() if key != "compression_training"}
        model = partitioned_model(plain)
    else:
        model = tiny_model()
    engine, *_ = xtc_ds.initialize(model=model, config=config, model_parameters=list(model.parameters()))
    return engine


def partitioned_model(config: dict[str, Any]) -> Any:
    """The tiny model partitioned over the ranks before any engine sees it."""
    model = tiny_model()
    deepspeed.zero.Init(module=model, config_dict_or_path=config)
    assert all(parameter.numel() == 0 for parameter in model.parameters())
    return model


def distinct_levels(engine: Any) -> int:
    """The most distinct values in a row of any compressed layer's weight, as it is in force."""
    found = []
    for _, layer in compressed_layers(engine.module):
        weight: torch.Tensor = layer.weight  # type: ignore[attr-defined]
        with gathered([weight]), torch.no_grad():
            found += [len(row.unique()) for row in layer.in_force(weight, None)[0].float()]
    assert len(found) > 100
    return max(found)


def logits(model: Any) -> list[float]:
    inputs = batch(labels=False, seed=99)
    with torch.no_grad():
        values: list[float] = model(**inputs).logits.float().flatten().tolist()
    return values


def stage_run(stage: int, out: Path, **precision: Any) -> dict[str, Any]:
    """precision: DeepSpeed's piece of config that switches on bf16 or fp16."""
    name = "-".join([str(stage), *precision])
    engine = build(stage, precision=precision)
    losses = train(engine)
    levels = distinct_levels(engine)
    engine.eval()
    trained = logits(engine)
    frozen = xtc_ds.freeze(engine)
    shipped = logits(frozen)
    folder = out / f"packed-{name}"
    report = xtc_ds.export_packed(frozen, folder)
    engine.save_checkpoint(str(out / f"kept-{name}"))
    dist.barrier()
    reloaded = logits(xtc_ds.load(folder).eval())
    more = train(engine, 1, STEPS)
    figures = {
        "losses": losses + more,
        "folder": str(folder),
        "levels": levels,
        "trained": trained,
        "shipped": shipped,
        "reloaded": reloaded,
        "file_bytes": report.file_bytes,
        "tensor_bytes": report.tensor_bytes,
        "planned": engine.xtc.plan.sizes.packed,
        "teacher_in_state": any("teacher" in name for name in engine.module.state_dict()),
        "engine": type(engine).__name__,
    }
    engine.destroy()
    return figures


def resume_run(stage: int, out: Path) -> dict[str, Any]:
    schedule = {"params": {"target_bits": 2, "start_bits": 8, "quantization_period": 1}, "bits": 8}
    engine = build(stage, **schedule)
    train(engine, 2)
    engine.save_checkpoint(str(out / f"checkpoint-{stage}"), client_state={"note": "mine"})
    straight = train(engine, 3, 2)
    bits = engine.xtc.schedule.bits()
    engine.destroy()
    again = build(stage, **schedule)
    _, client_state = again.load_checkpoint(str(out / f"checkpoint-{stage}"))
    bits_after_load = again.xtc.schedule.bits()["weights"]["all"]
    resumed = train(again, 3, 2)
    figures = {
        "straight": straight,
        "resumed": resumed,
        "bits_after_load": bits_after_load,
        "bits": bits["weights"]["all"],
        "bits_resumed": again.xtc.schedule.bits()["weights"]["all"],
        "client_state": {k: v for k, v in client_state.items() if k in ("note", "xtc_ds")},
    }
    again.destroy()
    return figures


def accumulation_run(accumulation: int) -> dict[str, Any]:
    engine = build(0, accumulation=accumulation, shared={"schedule_offset": 2})
    losses = train(engine, 3, accumulation=accumulation)
    figures = {"losses": losses, "step": engine.xtc.schedule.step}
    engine.destroy()
    return figures


def zero_init_run() -> dict[str, Any]:
    engine = build(3, zero_init=True)
    figures = {"losses": train(engine, STEPS), "levels": distinct_levels(engine)}
    figures["shipped"] = logits(xtc_ds.freeze(engine))
    engine.destroy()
    return figures


def static_range_run() -> dict[str, Any]:
    engine = build(0, activation_shared={"range_calibration": "static"})
    train(engine, 2)
    ranges = [b.tolist() for n, b in engine.module.named_buffers() if n.endswith("activation_quantizer.x_min_max")]
    engine.destroy()
    return {"ranges": ranges}


def stages(out: Path) -> dict[str, Any]:
    figures = {f"stage{stage}": stage_run(stage, out) for stage in (0, 1, 2, 3)}
    figures |= {f"bf16-{stage}": stage_run(stage, out, bf16={"enabled": True}) for stage in (1, 3)}
    if fp16_supported():
        fp16 = {"enabled": True, "initial_scale_power": 8}
        figures |= {f"fp16-{stage}": stage_run(stage, out, fp16=fp16) for stage in (0, 1, 2, 3)}
    return figures | {"zero_init": zero_init_run(), "static": static_range_run()}


def resumed(out: Path) -> dict[str, Any]:
    figures = {f"resume{stage}": resume_run(stage, out) for stage in (0, 2, 3)}
    return figures | {f"accumulation{count}": accumulation_run(count) for count in (1, 2)}


def moq(_: Path) -> dict[str, Any]:
    return {f"moq-{kind}-{stage}": two_rank_run(stage, kind, dist.get_rank()) for kind, stage in MOQ_RUNS}


def pruning(out: Path) -> dict[str, Any]:
    return {name: pruning_run(name, out) for name in PRUNING_RUNS}


def learned(out: Path) -> dict[str, Any]:
    return {name: learned_run(name, out) for name in LEARNED_RUNS}


def teachers(out: Path) -> dict[str, Any]:
    figures = {f"teacher-{kind}-{stage}": teacher_run(kind, stage, out) for kind, stage in TEACHER_RUNS}
    return figures | {"refused_int8": refused_int8()}


def collectives(_: Path) -> dict[str, Any]:
    return {
        f"collectives{stage}": collectives_run(stage, lambda engine, step: train(engine, 1, step)) for stage in STAGES
    }


SCENARIOS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "stages": stages,
    "resumed": resumed,
    "moq": moq,
    "pruning": pruning,
    "learned": learned,
    "teachers": teachers,
    "collectives": collectives,
}

if __name__ == "__main__":
    write_figures(lambda out, name: SCENARIOS[name](out))
