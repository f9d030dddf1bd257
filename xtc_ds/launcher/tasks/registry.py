"""The registry of tasks, and a function that loads a task by name.

Other packages add tasks by ``register_task``, or by an entry point in the group ``xtc_ds.tasks`` that names a
``Task`` object, or a function that registers tasks when it is called::

    [project.entry-points."xtc_ds.tasks"]
    headlines = "my_package.tasks:HEADLINES"
"""

from __future__ import annotations

import difflib
import os
import random
import warnings
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from xtc_ds.errors import DataError
from xtc_ds.launcher.tasks.base import DataOptions, Rows, Task, TaskData

__all__ = ["ENTRY_POINTS", "get_task", "load_task", "register_task", "task_names", "unregister_task"]

ENTRY_POINTS = "xtc_ds.tasks"
# Seeds the choice of evaluation rows. Fixed, so that runs with different seeds are scored on the same rows.
_EVAL_SEED = 0

_tasks: dict[str, Task] = {}
_searched: set[str] = set()


def register_task(task: Task) -> None:
    """Register a task under its name. Raises ``DataError`` if another task has that name."""
    known = _tasks.setdefault(_key(task.name), task)
    if known is not task:
        raise DataError(f"a task called {task.name!r} is registered already, as a {type(known).__name__}")


def unregister_task(name: str) -> None:
    """Remove a task from the registry; no-op if there is none of that name."""
    _tasks.pop(_key(name), None)


def task_names() -> tuple[str, ...]:
    """Names of all tasks, those of other packages last."""
    _search_entry_points()
    return tuple(_tasks)


def get_task(name: str) -> Task:
    """The task called ``name`` (any case; ``SST-2`` and ``STS-B`` too). Raises ``DataError`` if unknown."""
    key = _key(name)
    if key not in _tasks:
        _search_entry_points(key)
    if key in _tasks:
        return _tasks[key]
    near = difflib.get_close_matches(key, _tasks, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise DataError(f"unknown task {name!r}; the tasks are {', '.join(_tasks)}{hint}")


def load_task(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    seed: int = 42,
    flags: Mapping[str, Any] | None = None,
) -> TaskData:
    """Load a task by name.

    ``max_train_samples`` keeps that many rows, drawn with ``seed`` and left in file order;
    ``max_eval_samples`` does so for each evaluation split. Which evaluation rows are drawn never depends on
    ``seed``, so that a teacher and a student trained with different seeds are scored on the same rows.
    ``flags`` holds the values of the task's own flags. Raises ``DataError`` for an unknown task, missing,
    malformed or empty data, and limits below 1.
    """
    task = get_task(name)
    for flag, limit in (("max_train_samples", max_train_samples), ("max_eval_samples", max_eval_samples)):
        if limit is not None and limit < 1:
            raise DataError(f"{flag} must be at least 1; found {limit}")
    data = task.load(DataOptions(None if data_dir is None else Path(data_dir), flags or {}))
    dev = {split: _sample(rows, max_eval_samples, _EVAL_SEED) for split, rows in data.dev.items()}
    return TaskData(data.task, _sample(data.train, max_train_samples, seed), dev)


def _sample(rows: Rows, limit: int | None, seed: int) -> Rows:
    if limit is None or limit >= len(rows):
        return rows
    chosen: Rows = rows.select(sorted(random.Random(seed).sample(range(len(rows)), limit)))
    return chosen


def _key(name: str) -> str:
    return name.casefold().replace("-", "")


def _search_entry_points(wanted: str | None = None) -> None:
    """Load the tasks of other packages, each entry point once.

    A failing entry point is an error if the user asked for its task, otherwise a warning: a broken package must not
    stop runs that do not need it.
    """
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.value in _searched:
            continue
        try:
            _load(entry)
        except Exception as error:  # another package may raise anything when it is imported
            text = f"the task entry point {entry.name!r} ({entry.value}) cannot be loaded: {error}"
            if _key(entry.name) == wanted:
                raise DataError(text) from error
            warnings.warn(text, stacklevel=2)
        _searched.add(entry.value)


def _load(entry: EntryPoint) -> None:
    found = entry.load()
    if isinstance(found, Task):
        register_task(found)
    else:
        found()
