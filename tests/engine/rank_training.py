"""Training an engine on this rank's part of global batches."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from tests.tiny import batch


def rank_batch(step: int, rows: int = 8) -> dict[str, torch.Tensor]:
    """This rank's part of a global batch."""
    whole = batch(rows, seed=step)
    share = rows // dist.get_world_size()
    start = dist.get_rank() * share
    return {name: tensor[start : start + share] for name, tensor in whole.items()}


def train(engine: Any, steps: int = 3, start: int = 0, accumulation: int = 1) -> list[float]:
    """The mean loss of all ranks at each step; batches are numbered by step."""
    engine.train()
    losses = []
    for step in range(start, start + steps):
        whole = rank_batch(step)
        size = len(whole["input_ids"]) // accumulation
        total = 0.0
        for part in range(accumulation):
            piece = {name: tensor[part * size : (part + 1) * size] for name, tensor in whole.items()}
            loss = engine(**piece).loss
            engine.backward(loss)
            engine.step()
            total += float(loss.detach()) / accumulation
        mean = torch.tensor(total)
        dist.all_reduce(mean)
        losses.append(float(mean) / dist.get_world_size())
    return losses
