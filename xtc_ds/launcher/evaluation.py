"""Predictions and scores of a model on the evaluation splits, distributed over the ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from transformers.trainer_pt_utils import nested_concat

from xtc_ds.distributed import rank, world_size
from xtc_ds.launcher.batching import eval_batches
from xtc_ds.launcher.tasks.base import Collator, Task
from xtc_ds.launcher.tasks.encoded import EncodedDataset

__all__ = ["Predict", "Predictions", "predict_all", "score"]

Predict = Callable[[Any, dict[str, torch.Tensor]], torch.Tensor]
"""From a model and a batch to what it says of each example, [B, ...]."""

Predictions = dict[str, npt.NDArray[Any]]
"""What ``Task.predict`` gave for all examples of each evaluation split, (examples, ...)."""


def predict_all(
    predict: Predict,
    model: Any,
    data: EncodedDataset,
    collate: Collator,
    batch_size: int,
    device: torch.device,
    count: int | None = None,
) -> npt.NDArray[Any]:
    """``predict(model, batch)`` for every example in order, (examples, ...), the same on all ranks; floats as float32.

    count: use only the first ``count`` examples. If batches have different widths (tokens), the second axis is padded
    with -100.
    """
    pieces = []
    with torch.no_grad():
        for batch in eval_batches(count or len(data), batch_size, world_size(), rank()):
            inputs = {name: tensor.to(device) for name, tensor in collate([data[i] for i in batch.indices]).items()}
            found = predict(model, inputs)[: batch.keep]
            pieces.append((found.float() if found.is_floating_point() else found).cpu().numpy())
    mine = _concatenate(pieces)
    if world_size() == 1:
        return mine
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, mine)
    return _concatenate(gathered)


def score(task: Task, predictions: Predictions, dev: Mapping[str, EncodedDataset]) -> dict[str, float]:
    """All metrics; with several splits (MNLI) their names are prefixed. ``headline`` is the mean headline metric."""
    result: dict[str, float] = {}
    headlines = []
    for name, values in predictions.items():
        metrics = task.score(values, dev[name])
        headlines.append(metrics[task.headline])
        result |= metrics if len(predictions) == 1 else {f"{name}_{key}": value for key, value in metrics.items()}
    result["headline"] = sum(headlines) / len(headlines)
    return result


def _concatenate(pieces: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = nested_concat(whole, piece)
    return np.asarray(whole)
