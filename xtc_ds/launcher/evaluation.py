"""Logits and scores of a model over the dev sets, spread over the ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from xtc_ds.distributed import rank, world_size
from xtc_ds.launcher.batching import EncodedDataset, PadCollator, eval_batches
from xtc_ds.launcher.metrics import compute_metrics, headline
from xtc_ds.launcher.tasks import Task

__all__ = ["all_logits", "score"]

Model = Callable[..., Any]


def all_logits(
    model: Model, data: EncodedDataset, collate: PadCollator, batch_size: int, device: torch.device
) -> np.ndarray:
    """Logits of every example in order, (examples, labels), float32, the same on all ranks."""
    pieces = []
    with torch.no_grad():
        for batch in eval_batches(len(data), batch_size, world_size(), rank()):
            inputs = collate([data[index] for index in batch.indices])
            inputs.pop("labels")
            logits = model(**{name: tensor.to(device) for name, tensor in inputs.items()}).logits
            pieces.append(logits[: batch.keep].float().cpu().numpy())
    mine = np.concatenate(pieces)
    if world_size() == 1:
        return mine
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, mine)
    return np.concatenate(gathered)


def score(task: Task, logits: dict[str, np.ndarray], dev: dict[str, EncodedDataset]) -> dict[str, float]:
    """All metrics; with several dev sets (MNLI) their names are prefixed. ``headline`` is the mean headline."""
    result: dict[str, float] = {}
    heads = []
    for name, values in logits.items():
        metrics = compute_metrics(task, values, dev[name].labels)
        heads.append(headline(task, metrics))
        result |= metrics if len(logits) == 1 else {f"{name}_{key}": value for key, value in metrics.items()}
    result["headline"] = sum(heads) / len(heads)
    return result
