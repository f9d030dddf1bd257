"""The launcher: compresses a model on a task, end to end (``xtc-ds train``, ``launcher/train.py``).

It uses the library's public API alone. The names below are what a new task, or a script around the launcher, needs.
Importing them loads neither torch nor transformers, so that mistakes in the flags are told at once.
"""

from __future__ import annotations

from xtc_ds.launcher.tasks import (
    DataOptions,
    EncodedDataset,
    Split,
    Task,
    TaskData,
    TextTask,
    encode,
    get_task,
    load_task,
    register_task,
)
from xtc_ds.launcher.train import main

__all__ = [
    "DataOptions",
    "EncodedDataset",
    "Split",
    "Task",
    "TaskData",
    "TextTask",
    "encode",
    "get_task",
    "load_task",
    "main",
    "register_task",
]
