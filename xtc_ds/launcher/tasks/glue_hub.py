"""GLUE from the Hugging Face hub, through ``datasets``."""

from __future__ import annotations

from typing import Any

from xtc_ds.errors import DataError
from xtc_ds.launcher.hub import offline_unless_reachable
from xtc_ds.launcher.tasks.text import Split

__all__ = ["HUB_DATASET", "download"]

HUB_DATASET = "nyu-mll/glue"
_DEV = {"dev": "validation"}
_DEV_MNLI = {"matched": "validation_matched", "mismatched": "validation_mismatched"}


def download(name: str, keys: tuple[str, ...], num_labels: int | None) -> tuple[Split, dict[str, Split]]:
    """Download the training split and the dev splits of a GLUE task, or take them from the cache of ``datasets``.

    keys: names of the text columns; num_labels: classes are 0 to ``num_labels`` - 1, None for scores. Raises
    ``DataError`` when ``datasets`` is missing, when the hub cannot be reached and nothing is cached (found out
    within seconds: ``datasets`` alone retries for half a minute), and when the rows are not GLUE's.
    """
    remedy = "give a folder with the original GLUE files with --data_dir"
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"task {name!r} needs the package 'datasets'; install it, or {remedy}") from error
    try:
        with offline_unless_reachable():
            loaded: Any = datasets.load_dataset(HUB_DATASET, name)
    except Exception as error:  # the user's way out is the same for any error in there
        reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise DataError(f"task {name!r} could not be loaded from the hub ({reason}); {remedy}") from error
    splits = _DEV_MNLI if name == "mnli" else _DEV
    try:
        train, *dev = (
            _split(loaded[split], f"{HUB_DATASET} {name} {split}", keys, num_labels)
            for split in ("train", *splits.values())
        )
    except KeyError as error:
        raise DataError(f"{HUB_DATASET} {name}: no split or column {error}; {remedy}") from error
    return train, dict(zip(splits, dev, strict=True))


def _split(rows: Any, where: str, keys: tuple[str, ...], num_labels: int | None) -> Split:
    columns = [list(rows[key]) for key in keys]
    labels = list(rows["label"])
    if not labels:
        raise DataError(f"{where}: no rows")
    if num_labels is not None:
        wrong = next((i for i, label in enumerate(labels) if label not in range(num_labels)), None)
        if wrong is not None:
            raise DataError(f"{where}, row {wrong}: label {labels[wrong]!r}; expected 0 to {num_labels - 1}")
    return Split(columns[0], columns[1] if len(keys) == 2 else None, labels)
