"""What only a training script needs: tasks, metrics and batches. ``launcher/train.py`` puts them together."""

from __future__ import annotations

from xtc_launcher.batching import (
    EncodedDataset,
    EvalBatch,
    LengthGroupedBatchSampler,
    PadCollator,
    encode,
    eval_batches,
    eval_shard,
)
from xtc_launcher.metrics import compute_metrics, headline, predictions
from xtc_launcher.tasks import TASKS, Split, Task, TaskData, get_task, load_task

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
