"""GLUE's metrics: values, constant predictions, and logits that are no numbers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from xtc_ds.errors import DataError
from xtc_ds.launcher.tasks import glue, reviews
from xtc_ds.launcher.tasks.metrics import compute_metrics

TASKS = {task.name: task for task in (reviews.TASK, *glue.TASKS)}


def one_hot(classes: list[int], count: int = 2) -> np.ndarray:
    return np.eye(count)[classes]


def test_two_classes() -> None:
    truth, logits = [1, 1, 1, 0], one_hot([1, 1, 0, 0])
    assert compute_metrics(TASKS["sst2"], logits, truth) == {"accuracy": 0.75}
    metrics = compute_metrics(TASKS["mrpc"], logits, truth)
    assert metrics == pytest.approx({"accuracy": 0.75, "f1": 0.8})
    assert metrics[TASKS["mrpc"].headline] == 0.75
    # Matthews: (tp tn - fp fn) / sqrt of the margins = (2*1 - 0*1) / sqrt(2 * 3 * 1 * 2)
    assert compute_metrics(TASKS["cola"], logits, truth) == pytest.approx({"matthews_correlation": 2 / 12**0.5})


def test_three_classes_and_regression() -> None:
    assert compute_metrics(TASKS["mnli"], one_hot([0, 1, 2], 3), [0, 1, 1]) == pytest.approx({"accuracy": 2 / 3})
    scores, truth = np.array([[0.1], [0.2], [0.9], [5.0]]), [0.0, 1.0, 2.0, 3.0]
    metrics = compute_metrics(TASKS["stsb"], scores, truth)
    assert metrics["spearmanr"] == pytest.approx(1.0)
    assert metrics[TASKS["stsb"].headline] == pytest.approx(np.corrcoef(scores[:, 0], truth)[0, 1])
    assert compute_metrics(TASKS["stsb"], scores[:, 0], truth) == metrics


@pytest.mark.parametrize("name", TASKS)
def test_constant_predictions_have_a_score_and_no_warnings(name: str) -> None:
    task = TASKS[name]
    logits = np.tile([[0.3, 0.2, 0.1][: task.num_labels]], (4, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        varied = compute_metrics(task, logits, [0, 1, 0, 1])
        constant = compute_metrics(task, logits, [1, 1, 1, 1])
    assert tuple(varied) == task.metrics and task.headline in task.metrics
    assert varied.get("accuracy", 0.5) == 0.5
    assert all(np.isfinite(value) for value in (*varied.values(), *constant.values()))
    assert {varied[key] for key in varied if key != "accuracy"} <= {0.0}


def test_logits_that_are_no_numbers() -> None:
    logits = one_hot([0, 1, 1])
    logits[1, 0], logits[2, 1] = np.nan, np.inf
    with pytest.raises(DataError, match="the logits of 2 of 3 examples are NaN or infinite"):
        compute_metrics(TASKS["sst2"], logits, [0, 1, 1])


def test_wrong_shapes() -> None:
    with pytest.raises(DataError, match=r"shape \[N, 2\]; found \[3, 1\]"):
        compute_metrics(TASKS["sst2"], np.zeros((3, 1)), [0, 0, 0])
    with pytest.raises(DataError, match="no predictions"):
        compute_metrics(TASKS["sst2"], np.zeros((0, 2)), [])
    with pytest.raises(DataError, match="3 predictions for labels of shape"):
        compute_metrics(TASKS["sst2"], np.zeros((3, 2)), [0])
