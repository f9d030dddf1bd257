"""The launcher's tasks: the interface (``base``), the registry, and the built-in tasks.

A new task is one module that calls ``register_task`` and is imported below.
"""

from __future__ import annotations

from xtc_ds.launcher.tasks import reviews  # isort: skip - the first in every list of tasks
from xtc_ds.launcher.tasks import glue
from xtc_ds.launcher.tasks.base import Collator, DataOptions, Rows, Task, TaskData
from xtc_ds.launcher.tasks.encoded import EncodedDataset
from xtc_ds.launcher.tasks.registry import get_task, load_task, register_task, task_names, unregister_task
from xtc_ds.launcher.tasks.text import Split, TextTask, encode

__all__ = [
    "Collator",
    "DataOptions",
    "EncodedDataset",
    "Rows",
    "Split",
    "Task",
    "TaskData",
    "TextTask",
    "encode",
    "get_task",
    "glue",
    "load_task",
    "register_task",
    "reviews",
    "task_names",
    "unregister_task",
]
