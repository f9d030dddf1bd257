"""The launcher's tasks: the contract (``base``), the registry, and the tasks that come with the package.

A new task is one module that calls ``register_task``, named in the imports below.
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
