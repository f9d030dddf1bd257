"""What only a training script needs: tasks, metrics and batches. ``launcher/train.py`` puts them together.

The names below are imported on first use, so that a mistake in the flags is told before torch is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xtc_ds.launcher.batching import (
        EncodedDataset,
        EvalBatch,
        LengthGroupedBatchSampler,
        PadCollator,
        encode,
        eval_batches,
        eval_shard,
    )
    from xtc_ds.launcher.metrics import compute_metrics, headline, predictions
    from xtc_ds.launcher.tasks import TASKS, Split, Task, TaskData, get_task, load_task

__all__ = [
    "TASKS",
    "EncodedDataset",
    "EvalBatch",
    "LengthGroupedBatchSampler",
    "PadCollator",
    "Split",
    "Task",
    "TaskData",
    "compute_metrics",
    "encode",
    "eval_batches",
    "eval_shard",
    "get_task",
    "headline",
    "load_task",
    "predictions",
]

_TASKS = ("TASKS", "Split", "Task", "TaskData", "get_task", "load_task")
_METRICS = ("compute_metrics", "headline", "predictions")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'xtc_ds.launcher' has no attribute '{name}'")
    home = "tasks" if name in _TASKS else "metrics" if name in _METRICS else "batching"
    value = getattr(importlib.import_module(f"xtc_ds.launcher.{home}"), name)
    globals()[name] = value
    return value
