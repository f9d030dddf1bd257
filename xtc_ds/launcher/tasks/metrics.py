"""Metrics of classification and regression, computed by scikit-learn and scipy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from xtc_ds.errors import DataError

__all__ = ["compute_metrics", "predictions"]


class Labelled(Protocol):
    """A task with one label per example (``TextTask``)."""

    @property
    def name(self) -> str: ...
    @property
    def metrics(self) -> tuple[str, ...]: ...
    @property
    def is_regression(self) -> bool: ...
    @property
    def num_labels(self) -> int: ...


Logits = npt.ArrayLike
"""Shape [N, task.num_labels]; for regression also [N]."""


def predictions(task: Labelled, logits: Logits) -> npt.NDArray[Any]:
    """Return class indices [N], or scores [N] for regression.

    Raises ``DataError`` for a wrong shape, for no rows, and for logits that are NaN or infinite.
    """
    values = np.asarray(logits, dtype=np.float64)
    if task.is_regression and values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] != task.num_labels:
        raise DataError(f"task {task.name!r} needs logits of shape [N, {task.num_labels}]; found {list(values.shape)}")
    if len(values) == 0:
        raise DataError(f"task {task.name!r}: no predictions to score")
    bad = int((~np.isfinite(values)).any(axis=1).sum())
    if bad:
        raise DataError(
            f"task {task.name!r}: the logits of {bad} of {len(values)} examples are NaN or infinite, so there is "
            "no score; the model has diverged (try a lower learning rate)"
        )
    return values[:, 0] if task.is_regression else values.argmax(axis=1)


def compute_metrics(task: Labelled, logits: Logits, labels: Sequence[float] | npt.NDArray[Any]) -> dict[str, float]:
    """Return every metric of the task by name, in the order of ``task.metrics``.

    ``labels`` [N] are class indices or scores. Where a metric has no value, because all predictions or all
    labels are the same, it is 0.0. Raises ``DataError`` as ``predictions`` does, and when the number of
    labels differs.
    """
    predicted = predictions(task, logits)
    truth = np.asarray(labels)
    if truth.shape != predicted.shape:
        raise DataError(f"task {task.name!r}: {len(predicted)} predictions for labels of shape {list(truth.shape)}")
    return {name: _METRICS[name](truth, predicted) for name in task.metrics}


def _accuracy(truth: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> float:
    return float((truth == predicted).mean())


def _f1(truth: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, zero_division=0.0))


def _matthews(truth: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> float:
    from sklearn.metrics import matthews_corrcoef

    if _constant(truth) or _constant(predicted):
        return 0.0
    return float(matthews_corrcoef(truth, predicted))


def _pearson(truth: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> float:
    from scipy.stats import pearsonr

    return 0.0 if _constant(truth) or _constant(predicted) else float(pearsonr(predicted, truth)[0])


def _spearman(truth: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> float:
    from scipy.stats import spearmanr

    return 0.0 if _constant(truth) or _constant(predicted) else float(spearmanr(predicted, truth)[0])


def _constant(values: npt.NDArray[Any]) -> bool:
    """Whether all values are equal, up to what float64 sums can tell apart."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


_METRICS = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews_correlation": _matthews,
    "pearson": _pearson,
    "spearmanr": _spearman,
}
