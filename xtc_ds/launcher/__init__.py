"""The launcher: compresses a model on a task, end to end (``xtc-ds train``, ``launcher/train.py``).

It uses only the library's public API. The names below are those that a new task, or a script around the launcher,
needs. Importing them loads neither torch nor transformers, so that mistakes in the flags are reported at once.
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
