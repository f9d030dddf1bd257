"""The phases after training: score, export, reload, report."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

import xtc_ds
from xtc_ds.distributed import on_rank_zero, world_size
from xtc_ds.errors import ExportError
from xtc_ds.launcher.batching import eval_batches
from xtc_ds.launcher.evaluation import all_logits, score
from xtc_ds.launcher.prepare import Run
from xtc_ds.launcher.results import results_table, versions, write_json
from xtc_ds.launcher.verify import verify_in_fresh_process
from xtc_ds.plan import CompressionPlan

__all__ = ["finish", "logits_of"]

Logits = dict[str, np.ndarray]

# Same code, same weights, same inputs: any difference comes from the order of sums.
_TOLERANCE = 1e-3


def logits_of(run: Run, model: Any, device: torch.device) -> Logits:
    """Logits of every dev set."""
    collate, size = run.collator(), run.arguments.per_device_eval_batch_size
    return {name: all_logits(model, data, collate, size, device) for name, data in run.dev.items()}


def finish(
    run: Run, plan: CompressionPlan, engine: Any, frozen: nn.Module, steps: int, teacher: dict[str, Any]
) -> dict[str, Any]:
    """Score, export and verify the student; write and return the results.

    teacher: its ``score`` and ``layers``. Raises ExportError if the reloaded model is not the trained one.
    """
    folder = run.inputs.folder
    with run.phase("evaluate"):
        engine.eval()
        trained = logits_of(run, engine, engine.device)
        shipped = logits_of(run, frozen, engine.device)
    with run.phase("export"):
        scores = score(run.task, shipped, run.dev)
        told = {name: value for name, value in scores.items() if name != "headline"}
        report = xtc_ds.export_packed(frozen, folder.packed, tokenizer=run.tokenizer, scores=told)
    with run.phase("verify"):
        check = on_rank_zero(lambda: _verify(run, shipped, str(engine.device)))
    difference = check["max_logit_difference"]
    results = {
        "task": run.task.name,
        "metric": run.task.headline,
        "teacher": teacher["score"],
        "student": scores,
        "student_before_freeze": score(run.task, trained, run.dev),
        "layers": {
            "teacher": teacher["layers"],
            "student": len(plan.reduction.kept) if plan.reduction else teacher["layers"],
        },
        "steps": steps,
        "seconds": run.seconds,
        "world_size": world_size(),
        "zero_stage": int(engine.zero_optimization_stage()),
        "bytes": {
            "dense": plan.sizes.original,
            "packed": report.file_bytes,
            "packed_planned": plan.sizes.packed,
            "packed_header": report.header_bytes,
        },
        "compression_ratio": round(plan.sizes.original / report.file_bytes, 3),
        "max_logit_difference": difference,
        "max_logit_difference_freeze": max(float(np.abs(trained[n] - shipped[n]).max()) for n in shipped),
        "versions": versions(),
        "seed": run.arguments.seed,
        "ds_config": str(run.arguments.ds_config),
    }
    largest = max(float(np.abs(logits).max()) for logits in shipped.values())
    if not difference <= _TOLERANCE * max(1.0, largest):  # NaN fails too
        raise ExportError(
            f"{folder.packed}: reloaded in a fresh process, its logits differ from the trained model's by up to "
            f"{difference:.3g}"
        )
    on_rank_zero(lambda: write_json(folder.results, results))
    run.say(results_table(results))
    run.say(f"reloaded in a fresh process: largest logit difference {difference:.2g}")
    run.say(f"packed model: {folder.packed}")
    run.say(f"figures:      {folder.results}")
    return results


def _verify(run: Run, shipped: Logits, device: str) -> dict[str, float]:
    collate, checks = run.collator(), []
    for name, data in run.dev.items():
        parts = eval_batches(len(data), run.arguments.per_device_eval_batch_size)
        batches = [collate([data[i] for i in part.indices]) for part in parts]
        for batch in batches:
            batch.pop("labels")
        checks.append(verify_in_fresh_process(run.inputs.folder.packed, batches, shipped[name], device))
    # NaN counts as the worst.
    return max(checks, key=lambda check: np.nan_to_num(check["max_logit_difference"], nan=np.inf))
