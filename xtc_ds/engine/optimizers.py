"""Keeping an optimizer that was built before in line with the rewritten model."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer

__all__ = ["forget_dropped", "learn_added"]


def forget_dropped(optimizer: Optimizer, model: nn.Module) -> None:
    """Remove parameters of dropped layers, and groups that held nothing else."""
    alive = {id(parameter) for parameter in model.parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if id(parameter) not in alive:
                optimizer.state.pop(parameter, None)
        group["params"] = [parameter for parameter in group["params"] if id(parameter) in alive]
    optimizer.param_groups = [group for group in optimizer.param_groups if group["params"]]


def learn_added(optimizer: Optimizer, model: nn.Module) -> None:
    """Add the distillation projection's parameters, if there are any, with the optimizer's default options."""
    projection = getattr(model, "xtc_projection", None)
    if projection is None:
        return
    known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    added = [parameter for parameter in projection.parameters() if id(parameter) not in known]
    if added:
        optimizer.add_param_group({"params": added})
