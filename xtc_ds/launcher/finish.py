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
from xtc_ds.launcher.evaluation import Predict, Predictions, predict_all, score
from xtc_ds.launcher.results import results_table, versions, write_json
from xtc_ds.launcher.run_state import RunState
from xtc_ds.launcher.tasks.base import logits_of
from xtc_ds.launcher.verify import verify_in_fresh_process

__all__ = ["finish", "logits_of"]

# Code, weights and inputs are the same, so any difference comes from the order of summation.
_TOLERANCE = 1e-3
# If predictions are not logits, models are compared by the logits of this many examples of each split.
_CHECKED_EXAMPLES = 32


def predict_dev(state: RunState, model: Any, device: torch.device) -> Predictions:
    """The predictions that the task scores, for every evaluation split."""
    return _predict(state, state.task.predict, model, device, {name: len(data) for name, data in state.dev.items()})


def _logits(state: RunState, model: Any, device: torch.device, predictions: Predictions) -> Predictions:
    """The logits to compare models: the predictions if they are logits, else the logits of a few examples."""
    return predictions if state.task.predicts_logits else _predict(state, logits_of, model, device, _checked(state))


def _checked(state: RunState) -> dict[str, int]:
    """How many examples of each split are used to compare models by their logits."""
    most = None if state.task.predicts_logits else _CHECKED_EXAMPLES
    return {name: min(len(data), most or len(data)) for name, data in state.dev.items()}


def _predict(
    state: RunState, predict: Predict, model: Any, device: torch.device, counts: dict[str, int]
) -> Predictions:
    collate, size = state.collator(), state.arguments.per_device_eval_batch_size
    return {
        name: predict_all(predict, model, state.dev[name], collate, size, device, count)
        for name, count in counts.items()
    }


def finish(
    state: RunState, plan: xtc_ds.CompressionPlan, engine: Any, frozen: nn.Module, steps: int, teacher: dict[str, Any]
) -> dict[str, Any]:
    """Score, export and verify the student; write and return the results.

    teacher: its ``score`` and ``layers``. Raises ExportError if the reloaded model is not the trained one.
    """
    folder = state.inputs.folder
    with state.phase("evaluate"):
        engine.eval()
        trained = predict_dev(state, engine, engine.device)
        shipped = predict_dev(state, frozen, engine.device)
        trained_logits = _logits(state, engine, engine.device, trained)
        shipped_logits = _logits(state, frozen, engine.device, shipped)
    with state.phase("export"):
        scores = score(state.task, shipped, state.dev)
        metrics = {name: value for name, value in scores.items() if name != "headline"}
        report = xtc_ds.export_packed(frozen, folder.packed, tokenizer=state.tokenizer, scores=metrics)
    with state.phase("verify"):
        check = on_rank_zero(lambda: _verify(state, shipped_logits, str(engine.device)))
    difference = check["max_logit_difference"]
    results = {
        "task": state.task.name,
        "metric": state.task.headline,
        "teacher": teacher["score"],
        "student": scores,
        "student_before_freeze": score(state.task, trained, state.dev),
        "layers": {
            "teacher": teacher["layers"],
            "student": len(plan.reduction.kept) if plan.reduction else teacher["layers"],
        },
        "steps": steps,
        "seconds": state.seconds,
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
        "max_logit_difference_freeze": max(
            float(np.abs(trained_logits[name] - logits).max()) for name, logits in shipped_logits.items()
        ),
        "versions": versions(),
        "seed": state.arguments.seed,
        "ds_config": str(state.arguments.ds_config),
    }
    largest = max(float(np.abs(logits).max()) for logits in shipped_logits.values())
    if not difference <= _TOLERANCE * max(1.0, largest):  # NaN fails too
        raise ExportError(
            f"{folder.packed}: reloaded in a fresh process, its logits differ from the trained model's by up to "
            f"{difference:.3g}"
        )
    on_rank_zero(lambda: write_json(folder.results, results))
    state.say(results_table(results, state.task))
    state.say(f"reloaded in a fresh process: largest logit difference {difference:.2g}")
    state.say(f"packed model: {folder.packed}")
    state.say(f"figures:      {folder.results}")
    return results


def _verify(state: RunState, logits: Predictions, device: str) -> dict[str, float]:
    """Compare the logits of the reloaded file with these, split by split; returns the worst split's figures."""
    collate, checks = state.collator(), []
    for name, count in _checked(state).items():
        parts = eval_batches(count, state.arguments.per_device_eval_batch_size)
        batches = [dict(collate([state.dev[name][i] for i in part.indices])) for part in parts]
        for batch in batches:
            batch.pop("labels", None)
        folder, auto_class = state.inputs.folder.packed, state.task.auto_class
        checks.append(verify_in_fresh_process(folder, auto_class, batches, logits[name], device))
    # NaN counts as the worst.
    return max(checks, key=lambda check: np.nan_to_num(check["max_logit_difference"], nan=np.inf))
