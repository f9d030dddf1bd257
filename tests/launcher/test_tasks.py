"""What a task gets for free: logits of any head, padded predictions, one headline for several splits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from xtc_ds.launcher import EncodedDataset, Task, TextTask, get_task
from xtc_ds.launcher.evaluation import predict_all, score
from xtc_ds.launcher.tasks import task_names
from xtc_ds.launcher.tasks.base import logits_of

BATCH = {"input_ids": torch.tensor([[3, 4, 5]]), "labels": torch.tensor([1])}


def model(kind: str) -> Any:
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=2
    )
    return getattr(transformers, kind)(config).eval()


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("BertForSequenceClassification", (1, 2)),
        ("BertForTokenClassification", (1, 3, 2)),
        ("BertForMaskedLM", (1, 3, 50)),
        ("BertForQuestionAnswering", (1, 3, 2)),
        ("BertModel", (1, 3, 16)),
    ],
)
def test_logits_of_any_head_without_labels(kind: str, shape: tuple[int, ...]) -> None:
    assert tuple(logits_of(model(kind), BATCH).shape) == shape


def test_start_and_end_logits_are_told_apart() -> None:
    answers = model("BertForQuestionAnswering")
    outputs = answers(input_ids=BATCH["input_ids"])
    torch.testing.assert_close(logits_of(answers, BATCH)[..., 0], outputs.start_logits)
    torch.testing.assert_close(logits_of(answers, BATCH)[..., 1], outputs.end_logits)


def test_predictions_of_different_widths_are_padded() -> None:
    data = EncodedDataset({"input_ids": [[1], [2, 3], [4, 5, 6]]})

    def collate(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.tensor([example["input_ids"] for example in examples])}

    def predict(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["input_ids"] + model

    found = predict_all(predict, 10, data, collate, 1, torch.device("cpu"))
    assert found.tolist() == [[11, -100, -100], [12, 13, -100], [14, 15, 16]]
    assert predict_all(predict, 0, data, collate, 1, torch.device("cpu"), count=2).tolist() == [[1, -100], [2, 3]]


def test_the_headline_of_several_splits_is_their_mean() -> None:
    task = get_task("mnli")
    dev = {name: EncodedDataset({"input_ids": [[1]] * 2, "labels": [0, 1]}) for name in ("matched", "mismatched")}
    predictions = {"matched": np.eye(3)[[0, 1]], "mismatched": np.eye(3)[[0, 2]]}
    assert score(task, predictions, dev) == {"matched_accuracy": 1.0, "mismatched_accuracy": 0.5, "headline": 0.75}
    assert score(task, {"dev": np.eye(3)[[0, 1]]}, {"dev": dev["matched"]}) == {"accuracy": 1.0, "headline": 1.0}


def test_every_task_that_comes_with_the_package_keeps_the_contract() -> None:
    for name in task_names():
        task = get_task(name)
        assert isinstance(task, Task)
        assert hasattr(transformers, task.auto_class)
        assert task.greater_is_better and task.predicts_logits
        assert task.format_score(task.headline, 0.5) == "50.0"
        assert isinstance(task, TextTask) and task.headline in task.metrics
        assert task.model_config()["num_labels"] == task.num_labels
