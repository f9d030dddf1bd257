"""GLUE from the Hugging Face hub, through ``datasets``."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xtc_ds.errors import DataError
from xtc_ds.launcher.tasks import Split, Task, TaskData

__all__ = ["HUB_DATASET", "load"]

HUB_DATASET = "nyu-mll/glue"
_TIMEOUT_SECONDS = 5.0
_DEV = {"dev": "validation"}
_DEV_MNLI = {"matched": "validation_matched", "mismatched": "validation_mismatched"}


def load(task: Task) -> TaskData:
    """Download one GLUE task, or take it from the local cache of ``datasets``.

    Raises ``DataError`` when ``datasets`` is missing, when the hub cannot be reached and nothing is cached
    (found out within seconds: ``datasets`` alone retries for half a minute), and when the rows are not as
    GLUE's.
    """
    remedy = "give a folder with the original GLUE files with --data_dir"
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"task {task.name!r} needs the package 'datasets'; install it, or {remedy}") from error
    try:
        with _offline_unless_reachable():
            loaded: Any = datasets.load_dataset(HUB_DATASET, task.name)
    except Exception as error:  # whatever goes wrong in there, the user's way out is the same
        reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise DataError(f"task {task.name!r} could not be loaded from the hub ({reason}); {remedy}") from error
    names = _DEV_MNLI if task.name == "mnli" else _DEV
    try:
        train = _split(task, loaded["train"], "train")
        dev = {key: _split(task, loaded[name], name) for key, name in names.items()}
    except KeyError as error:
        raise DataError(f"{HUB_DATASET} {task.name}: no split or column {error}; {remedy}") from error
    return TaskData(task, train, dev)


def _split(task: Task, rows: Any, name: str) -> Split:
    columns = [list(rows[key]) for key in task.keys]
    labels = list(rows["label"])
    where = f"{HUB_DATASET} {task.name} {name}"
    if not labels:
        raise DataError(f"{where}: no rows")
    if not task.is_regression:
        wrong = next((i for i, label in enumerate(labels) if label not in range(task.num_labels)), None)
        if wrong is not None:
            raise DataError(f"{where}, row {wrong}: label {labels[wrong]!r}; expected 0 to {task.num_labels - 1}")
    return Split(columns[0], columns[1] if task.is_pair else None, labels)


def _reachable(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=_TIMEOUT_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True  # it answered
    except (OSError, ValueError):
        return False


@contextmanager
def _offline_unless_reachable() -> Iterator[None]:
    """Without a network, let ``datasets`` look only into its cache instead of retrying."""
    import datasets.config
    import huggingface_hub.constants

    if _reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")):
        yield
        return
    settings: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [setting.HF_HUB_OFFLINE for setting in settings]
    try:
        for setting in settings:
            setting.HF_HUB_OFFLINE = True
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.HF_HUB_OFFLINE = value
